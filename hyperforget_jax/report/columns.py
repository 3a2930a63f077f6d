"""How rows of results are read: their columns and their references."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hyperforget_jax.report.schema import REFERENCES

__all__ = [
    "COLUMNS",
    "Column",
    "Row",
    "factors",
    "flat",
    "is_cut_short",
    "references_of",
    "sorted_rows",
]

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of numbers: where they are in a row, and how they are read.

    Attributes:
        metric: its name in the rows.
        heading: for people.
        digits: after the point.
        worst: which of ``"min"`` and ``"max"`` is the worst value, if either.
        target: ``"0"``, or the reference whose value it should have.
        meaning: a sentence or two.
    """

    metric: str
    heading: str
    digits: int
    worst: str | None
    target: str
    meaning: str


COLUMNS = (
    Column(
        *("forget_accuracy_test", "Forget accuracy, test", 3, "max", "0"),
        "The share of unseen examples of the forgotten kind that are still predicted "
        "right. Never read it alone: a model that only hides a class also scores 0.",
    ),
    Column(
        *("forget_accuracy_train", "Forget accuracy, train", 3, "max", "retrain"),
        "The same on the forgotten training rows themselves.",
    ),
    Column(
        *("retain_accuracy_test", "Retain accuracy, test", 3, "min", "retrain"),
        "The share of all other unseen examples that is predicted right.",
    ),
    Column(
        *("retain_accuracy_train", "Retain accuracy, train", 3, "min", "retrain"),
        "The same on the training rows that were kept.",
    ),
    Column(
        *("mia_auc", "MIA AUC", 3, None, "retrain"),
        "Membership inference: how well the loss tells forgotten training rows from "
        "rows that were never trained on. 0.5 is guessing; far below it, the losses "
        "are suspiciously high.",
    ),
    Column(
        *("js_to_oracle", "JS to retrained", 4, "max", "ceiling"),
        "Jensen–Shannon divergence from the retrained models' outputs on the forgotten "
        "training rows, in nats: 0 is equal, 0.693 the most there is.",
    ),
    Column(
        *("l2_to_oracle", "L2 to retrained", 3, "max", "ceiling"),
        "Mean Euclidean distance between the same outputs, at most 1.414.",
    ),
    Column(
        *("tow", "ToW", 3, "min", "ceiling"),
        "Tug of war: forget and retain accuracies against retraining's, in one number. "
        "1 is as good as retraining.",
    ),
    Column(
        *("relearn_steps", "Relearn steps", 1, "min", "retrain"),
        "Training steps on the forgotten rows until the model knows them again. Few "
        "steps: they were hidden, not forgotten. ≥: some runs were cut short before "
        "that, and the true number is larger.",
    ),
)


def sorted_rows(group: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Sort a group into references, methods and checks (``ablation/...``)."""
    references = [row for name in REFERENCES for row in group if row["method"] == name]
    others = [row for row in group if row["method"] not in REFERENCES]
    checks = [row for row in others if row["method"].startswith("ablation/")]
    return references, [row for row in others if row not in checks], checks


def is_cut_short(row: Row) -> bool:
    """Return whether some relearning was cut short by its cap."""
    return row["metrics"].get("relearn_censored", {"max": 0})["max"] > 0


def references_of(row: Row, group: Sequence[Row]) -> dict[str, Row]:
    """Return the references of a row by name, those that exist.

    Where there are several of one name, the one that shares most of the row's factors.
    """

    def shared(other: Row) -> int:
        return sum(item in other["factors"].items() for item in row["factors"].items())

    references = sorted(sorted_rows(group)[0], key=shared)
    return {other["method"]: other for other in references}


def factors(row: Row) -> list[str]:
    """Return whatever else was varied, ``name value`` each."""
    return [f"{name} {value}" for name, value in flat(row["factors"])]


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested settings: ``outer.inner`` and text."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            leaves.append((f"{prefix}{name}", text))
    return leaves
