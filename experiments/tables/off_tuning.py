"""What every method's defaults cost where nothing was tuned."""

from tables.writing import METHOD, Cell, frame, grouped

_WORLDS = {"mnist_cnn": "MNIST", "wine": "wine", "breast_cancer": "breast cancer"}
_SCENARIOS = {"class": "class", "rows": "2 %"}


def losses() -> str:
    """Show the points of retained test accuracy that each method loses, by world."""
    return grouped(
        frame(*(f"off-tuning-{world}" for world in _WORLDS)),
        "method",
        METHOD,
        *(
            (f"{head}, {said}", _lost(world, scenario))
            for world, head in _WORLDS.items()
            for scenario, said in _SCENARIOS.items()
        ),
    )


def _lost(world: str, scenario: str) -> Cell:
    """Show the mean over seeds: bold above ten, "w" where there was a warning."""

    def cell(of):
        chosen = of[(of["world"] == world) & (of["scenario"] == scenario)]
        points = chosen["points_lost"].mean()
        text = f"{points:z.1f}"
        text = f"**{text}**" if points > 10 else text
        return f"{text} w" if chosen["warned"].any() else text

    return cell
