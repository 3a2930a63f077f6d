"""How rows of results are read: their columns, their names and their order."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hyperforget_jax.report.schema import REFERENCES

__all__ = [
    "COLUMNS",
    "Column",
    "Row",
    "columns_of",
    "factors",
    "flat",
    "is_cut_short",
    "method_rank",
    "rank",
    "reference",
    "subject_of",
]

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of numbers: where they are in a row, and how they are read.

    Attributes:
        metric: its name in the rows.
        heading: for people, as within a sentence.
        digits: after the point.
        worst: which of ``"min"`` and ``"max"`` is the worst value, if either.
        target: ``"0"``, or the reference whose value it should have.
        meaning: what it says, in a sentence or two.
    """

    metric: str
    heading: str
    digits: int
    worst: str | None
    target: str
    meaning: str


COLUMNS = (
    Column(
        "forget_accuracy_test",
        "forget accuracy, test",
        3,
        "max",
        "0",
        "The share of unseen examples of the forgotten kind that are still answered "
        "right. Never read it alone: a model that only hides an answer also scores 0.",
    ),
    Column(
        "forget_accuracy_train",
        "forget accuracy, train",
        3,
        "max",
        "retrain",
        "The same on the forgotten training rows themselves.",
    ),
    Column(
        "retain_accuracy_test",
        "retain accuracy, test",
        3,
        "min",
        "retrain",
        "The share of all other unseen examples that is answered right.",
    ),
    Column(
        "retain_accuracy_train",
        "retain accuracy, train",
        3,
        "min",
        "retrain",
        "The same on the training rows that were kept.",
    ),
    Column(
        "mia_auc",
        "MIA AUC",
        3,
        None,
        "retrain",
        "Membership inference: how well the loss tells forgotten training rows from "
        "rows that were never trained on. 0.5 is guessing; far below it, the losses "
        "are suspiciously high.",
    ),
    Column(
        "js_to_oracle",
        "JS to oracle",
        4,
        "max",
        "ceiling",
        "Jensen–Shannon divergence from the retrained models' answers on the forgotten "
        "training rows, in nats: 0 is equal, 0.693 the most there is.",
    ),
    Column(
        "l2_to_oracle",
        "L2 to oracle",
        3,
        "max",
        "ceiling",
        "Mean Euclidean distance between the same answers, at most 1.414.",
    ),
    Column(
        "tow",
        "ToW",
        3,
        "min",
        "ceiling",
        "Tug of war: forget and retain accuracies against retraining's, in one number. "
        "1 is as good as retraining.",
    ),
    Column(
        "relearn_steps",
        "relearn steps",
        1,
        "min",
        "retrain",
        "Training steps on the forgotten rows until the model knows them again. Few "
        "steps: they were hidden, not forgotten. ≥: some runs were cut short before "
        "that, and the true number is larger.",
    ),
)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns of which some row has the metric."""
    names = {name for row in rows for name in row["metrics"]}
    return [column for column in COLUMNS if column.metric in names]


def is_cut_short(metrics: Mapping[str, Any], column: Column) -> bool:
    """Whether some of a column's values would be larger without relearning's cap."""
    censored = metrics.get("relearn_censored")
    return column.metric == "relearn_steps" and bool(censored) and censored["max"] > 0


def subject_of(row: Row) -> str:
    """What the row is about: rows of one subject are read against each other."""
    return " / ".join(row[key] for key in ("dataset", "model", "scenario", "request"))


def factors(row: Row) -> list[str]:
    """Whatever else was varied, ``name value`` each."""
    return [f"{name} {value}" for name, value in flat(row["factors"])]


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The leaves of nested settings, ``outer.inner`` and text."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            leaves.append((f"{prefix}{name}", text))
    return leaves


def reference(group: Sequence[Row], method: str) -> Row:
    """The row of a subject that belongs to a reference method."""
    return next(row for row in group if row["method"] == method)


def rank(row: Row) -> int:
    """A key to sort rows by, as :func:`method_rank` sorts methods."""
    return method_rank(row["method"])


def method_rank(method: str) -> int:
    """A key to sort methods by: references first, in order, others as they came."""
    return REFERENCES.index(method) if method in REFERENCES else len(REFERENCES)
