"""The schema of results, and the checks that hold it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

__all__ = [
    "PHASES",
    "REFERENCES",
    "SUBJECT",
    "check_references",
    "metric_summary",
    "validate",
]

REFERENCES = ("original", "retrain", "ceiling")
"""The methods without which no other number can be read."""

SUBJECT = ("dataset", "model", "scenario", "request")
"""What rows that are read against each other have in common."""

PHASES = ("before", "init", "unlearn")
_FRACTIONS = {"mia_auc", "mia_tpr_at_1_fpr", "tow"}

Positive = Annotated[int, msgspec.Meta(ge=1)]
Duration = Annotated[float, msgspec.Meta(ge=0)]
Reads = list[Literal["retain", "forget", "classes", "probe"]]


class Metric(msgspec.Struct):  # Over repeats; the values are in seed order.
    mean: float
    std: float
    min: float
    max: float
    values: list[float]


class Phases(msgspec.Struct):
    before: Reads
    init: Reads
    unlearn: Reads


class Seconds(msgspec.Struct):
    init: Duration
    unlearn: Duration
    compile: Duration


class Row(msgspec.Struct):  # One method on one request.
    method: Annotated[str, msgspec.Meta(min_length=1)]
    dataset: str
    model: str
    scenario: str
    request: str
    factors: dict[str, Any]
    access: Phases | None
    seconds: Seconds | None
    over: str
    n: Positive
    metrics: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    num_forgotten: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_train: Positive | None = None


class Document(msgspec.Struct):
    schema: Literal[1]
    command: str
    preset: str
    commit: str
    dirty: bool | Literal["unknown"]
    device: str
    versions: dict[str, str]
    config: dict[str, Any]
    seconds: Duration
    rows: Annotated[list[Row], msgspec.Meta(min_length=1)]
    date: str | None = None


def metric_summary(values: Sequence[float]) -> dict[str, Any]:
    """Compute mean, sample standard deviation (zero for one value) and range.

    Args:
        values: finite, in seed order, at least one. Nine digits of them are kept, all
            that float32 has.

    Raises:
        ValueError: no values, or some that are not finite.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(
            f"values must be a list of finite numbers, at least one, got {values}: "
            "leave a metric out that does not exist."
        )
    numbers = np.array([float(f"{number:.9g}") for number in numbers])
    return {
        "mean": float(numbers.mean()),
        "std": float(numbers.std(ddof=1)) if numbers.size > 1 else 0.0,
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "values": numbers.tolist(),
    }


def validate(document: Any, *, references: bool = True) -> None:
    """Raise ValueError at the first place where a document breaks the schema.

    Args:
        document: as made by :func:`results_document`, or read from a file.
        references: whether every dataset, model, scenario and request must come with
            the rows of :data:`REFERENCES`. Only a benchmark of speed has none.

    Raises:
        ValueError: the message begins with the place, such as
            ``rows[2].metrics.forget_accuracy_test.values[0]``.
    """
    for place, leaf in _leaves(document):
        is_finite = isinstance(leaf, float) and math.isfinite(leaf)
        _require(
            is_finite or isinstance(leaf, str | int | None),
            place,
            f"must be finite JSON, got {leaf!r}",
        )
    _check(document, Document, "")
    for index, row in enumerate(document["rows"]):
        for name, metric in row["metrics"].items():
            place = f"rows[{index}].metrics.{name}"
            _check(metric, Metric, place)
            values = metric["values"]
            _require(
                len(values) == row["n"],
                f"{place}.values",
                f"must be n={row['n']} numbers, got {len(values)}",
            )
            if "accuracy" in name or name in _FRACTIONS:
                for number, value in enumerate(values):
                    _require(
                        0 <= value <= 1,
                        f"{place}.values[{number}]",
                        f"must be a fraction in [0, 1], got {value}",
                    )
            # What does not follow from its values was edited, or computed otherwise.
            for kind, wanted in list(metric_summary(values).items())[:-1]:
                _require(
                    math.isclose(metric[kind], wanted, rel_tol=1e-9, abs_tol=1e-12),
                    f"{place}.{kind}",
                    f"must follow from the values, {wanted}, got {metric[kind]}",
                )
    if references:
        check_references(document["rows"])


def check_references(rows: Sequence[Mapping[str, Any]], min_seeds: int = 1) -> None:
    """Raise ValueError unless every group of rows has its reference rows.

    Args:
        rows: of a document. A group is one dataset, model, scenario and request.
        min_seeds: the fewest training seeds of the retrained oracle.
    """
    groups: dict[str, dict[str, int]] = {}
    for row in rows:
        seeds = groups.setdefault(" / ".join(row[key] for key in SUBJECT), {})
        seeds[row["method"]] = max(seeds.get(row["method"], 0), row["n"])
    _require(bool(groups), "rows", "there are none, and so no reference rows")
    for group, seeds in groups.items():
        for method in REFERENCES:
            _require(
                method in seeds,
                "rows",
                f"lack the reference row {method!r} for {group}; there are "
                f"{sorted(seeds)}",
            )
        _require(
            seeds["retrain"] >= min_seeds,
            "rows",
            f"have n={seeds['retrain']} training seeds of the reference row 'retrain' "
            f"for {group}, fewer than {min_seeds}",
        )


def _require(condition: bool, place: str, message: str) -> None:
    if not condition:
        raise ValueError(f"{place}: {message}.")


def _check(value: Any, kind: Any, place: str) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, inner = str(error).partition(" - at `$")
        place = (place + inner.rstrip("`")).lstrip(".") or "document"
        raise ValueError(f"{place}: {message}.") from error


def _leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document, with its place."""
    if isinstance(tree, dict):
        for name, child in tree.items():
            _require(
                isinstance(name, str), place or "document", f"has the key {name!r}"
            )
            yield from _leaves(child, f"{place}.{name}" if place else name)
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from _leaves(child, f"{place}[{index}]")
    else:
        yield place or "document", tree
