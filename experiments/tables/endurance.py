"""Long jobs that were killed."""

from tables.writing import frame, grouped, value


def kills() -> str:
    """Show how often each kind of job was killed, and how its ends differed."""
    counts = ("kills", "ends", "differ")
    heads = ("kills", "ends", "ends that differ")
    return grouped(
        frame("endurance"),
        "method",
        ("job", value("method")),
        *(
            (head, value(name, "{:.0f}"))
            for head, name in zip(heads, counts, strict=True)
        ),
    )
