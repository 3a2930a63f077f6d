"""How rows of results are read: their columns, their groups and their references."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hyperforget_jax.report.schema import REFERENCES, SUBJECT

__all__ = [
    "COLUMNS",
    "MEANINGS",
    "Column",
    "Row",
    "by_subject",
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
    """

    metric: str
    heading: str
    digits: int
    worst: str | None
    target: str


COLUMNS = (
    Column("forget_accuracy_test", "Forget accuracy, test", 3, "max", "0"),
    Column("forget_accuracy_train", "Forget accuracy, train", 3, "max", "retrain"),
    Column("retain_accuracy_test", "Retain accuracy, test", 3, "min", "retrain"),
    Column("retain_accuracy_train", "Retain accuracy, train", 3, "min", "retrain"),
    Column("mia_auc", "MIA AUC", 3, None, "retrain"),
    Column("js_to_oracle", "JS to oracle", 4, "max", "ceiling"),
    Column("l2_to_oracle", "L2 to oracle", 3, "max", "ceiling"),
    Column("tow", "ToW", 3, "min", "ceiling"),
    Column("relearn_steps", "Relearn steps", 1, "min", "retrain"),
)

MEANINGS = {
    "forget_accuracy_test": "The share of unseen examples of the forgotten kind that "
    "are still answered right. Never read it alone: a model that only hides an answer "
    "also scores 0.",
    "forget_accuracy_train": "The same on the forgotten training rows themselves.",
    "retain_accuracy_test": "The share of all other unseen examples that is answered "
    "right.",
    "retain_accuracy_train": "The same on the training rows that were kept.",
    "mia_auc": "Membership inference: how well the loss tells forgotten training rows "
    "from rows that were never trained on. 0.5 is guessing; far below it, the losses "
    "are suspiciously high.",
    "js_to_oracle": "Jensen–Shannon divergence from the retrained models' answers on "
    "the forgotten training rows, in nats: 0 is equal, 0.693 the most there is.",
    "l2_to_oracle": "Mean Euclidean distance between the same answers, at most 1.414.",
    "tow": "Tug of war: forget and retain accuracies against retraining's, in one "
    "number. 1 is as good as retraining.",
    "relearn_steps": "Training steps on the forgotten rows until the model knows them "
    "again. Few steps: they were hidden, not forgotten. ≥: some runs were cut short "
    "before that, and the true number is larger.",
}
"""What the columns say, in a sentence or two."""


def by_subject(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by what they are about: within a group they are comparable."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(" / ".join(row[key] for key in SUBJECT), []).append(row)
    return groups


def sorted_rows(group: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Sort a group into references, methods and checks (``ablation/...``)."""
    references = [row for name in REFERENCES for row in group if row["method"] == name]
    others = [row for row in group if row["method"] not in REFERENCES]
    checks = [row for row in others if row["method"].startswith("ablation/")]
    return references, [row for row in others if row not in checks], checks


def is_cut_short(row: Row) -> bool:
    """Tell whether some relearning steps would be more without relearning's cap."""
    censored = row["metrics"].get("relearn_censored")
    return bool(censored) and censored["max"] > 0


def references_of(row: Row, group: Sequence[Row]) -> dict[str, Row]:
    """Find the references that a row is read against, by name, those that exist.

    Where there are several of one name, the one that shares most of the row's factors.
    """

    def shared(other: Row) -> int:
        return sum(
            name in other["factors"] and other["factors"][name] == value
            for name, value in row["factors"].items()
        )

    references = sorted(sorted_rows(group)[0], key=shared)
    return {other["method"]: other for other in references}


def factors(row: Row) -> list[str]:
    """Say whatever else was varied, ``name value`` each."""
    return [f"{name} {value}" for name, value in flat(row["factors"])]


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List the leaves of nested settings: ``outer.inner`` and text."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            leaves.append((f"{prefix}{name}", text))
    return leaves
