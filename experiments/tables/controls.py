"""What helps of the settings that the search changed together."""

from tables.writing import METHOD, frame, grouped, mean, value


def variants(preset: str) -> str:
    """Show the defaults and the best trial, each with the suspect and without."""
    return grouped(
        frame(f"controls-{preset}"),
        ["scenario", "method", "variant"],
        ("scenario", value("scenario")),
        METHOD,
        ("it", value("it", "`{}`")),
        ("settings", value("variant")),
        ("goal, nats", mean("goal", 2)),
        ("on what is forgotten", mean("goal_forgotten", 2)),
        ("on the rest", mean("goal_retained", 2)),
    )
