"""Class requests of the foundation's study."""

from collections.abc import Callable

import numpy as np

import hyperforget_jax as hf
from tables.writing import RESULTS, table


def methods(preset: str) -> str:
    """Every class forgotten in turn: the mean over classes, and the worst class."""
    document = hf.evaluation.read(RESULTS / f"classes-{preset}.json")
    of_method: dict[str, list] = {}
    for row in document["rows"]:
        of_method.setdefault(row["method"], []).append(row["metrics"])

    def cell(metrics: list, name: str, worst: Callable | None, digits: int) -> str:
        if any(name not in of_class for of_class in metrics):
            return "–"
        values = np.array([of_class[name]["values"] for of_class in metrics])
        # The spread is that of the training seeds; classes are averaged first.
        spread = values.mean(axis=0).std(ddof=1)
        text = f"{values.mean():.{digits}f} ± {spread:.{digits}f}"
        if worst is not None:
            text += f" ({worst(values.mean(axis=1)):.{digits}f})"
        censored = any(of_class["relearn_censored"]["max"] > 0 for of_class in metrics)
        return f"≥ {text}" if censored and name == "relearn_steps" else text

    columns = (
        ("forget_accuracy_test", max, 3),
        ("retain_accuracy_test", min, 3),
        ("mia_auc", None, 3),
        ("js_to_oracle", max, 3),
        ("tow", min, 3),
        ("relearn_steps", min, 1),
    )
    return table(
        [
            "method",
            "forget accuracy, test (worst class); target 0",
            "retain accuracy, test (worst); target retrain's",
            "MIA AUC; target retrain's",
            "JS to oracle, nats (worst); target the ceiling's",
            "ToW (worst); target the ceiling's",
            "relearning steps (fewest); target retrain's",
        ],
        [
            [f"`{method}`", *(cell(metrics, *column) for column in columns)]
            for method, metrics in of_method.items()
        ],
    )
