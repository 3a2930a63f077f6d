"""Class requests of the foundation's study."""

from tables.writing import METHOD, frame, grouped, relearning, spread


def methods(preset: str) -> str:
    """Show every class forgotten in turn: means over classes, and the worst class."""
    forget, retain = "forget_accuracy_test", "retain_accuracy_test"
    return grouped(
        frame(f"classes-{preset}"),
        "method",
        METHOD,
        (
            "forget accuracy, test (worst class); target 0",
            spread(forget, 3, "max"),
        ),
        (
            "retain accuracy, test (worst); target retrain's",
            spread(retain, 3, "min"),
        ),
        ("MIA AUC; target retrain's", spread("mia_auc", 3)),
        (
            "JS to retrained, nats (worst); target the ceiling's",
            spread("js_to_oracle", 3, "max"),
        ),
        ("ToW (worst); target the ceiling's", spread("tow", 3, "min")),
        ("relearning steps (fewest); target retrain's", relearning("min")),
    )
