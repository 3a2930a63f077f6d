"""Class requests of the foundation's study."""

from tables.writing import of_requests, relearning, rows_of, spread, table, with_worst


def methods(preset: str) -> str:
    """Every class forgotten in turn: the mean over classes, and the worst class."""
    of_method: dict[str, list] = {}
    for row in rows_of(f"classes-{preset}"):
        of_method.setdefault(row["method"], []).append(row["metrics"])
    lines = [
        [
            f"`{method}`",
            with_worst(of_requests(metrics, "forget_accuracy_test"), max, 3),
            with_worst(of_requests(metrics, "retain_accuracy_test"), min, 3),
            spread(of_requests(metrics, "mia_auc"), 3),
            with_worst(of_requests(metrics, "js_to_oracle"), max, 3),
            with_worst(of_requests(metrics, "tow"), min, 3),
            relearning(metrics, min),
        ]
        for method, metrics in of_method.items()
    ]
    return table(
        [
            "method",
            "forget accuracy, test (worst class); target 0",
            "retain accuracy, test (worst); target retrain's",
            "MIA AUC; target retrain's",
            "JS to retrained, nats (worst); target the ceiling's",
            "ToW (worst); target the ceiling's",
            "relearning steps (fewest); target retrain's",
        ],
        lines,
    )
