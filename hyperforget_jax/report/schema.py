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
    "Access",
    "Count",
    "Duration",
    "Head",
    "Positive",
    "by_subject",
    "check_finite",
    "check_references",
    "convert",
    "metric_summary",
    "validate",
]

REFERENCES = ("original", "retrain", "ceiling")
"""The methods without which no other number can be read."""

SUBJECT = ("dataset", "model", "scenario", "request")
"""What rows that are read against each other have in common."""

PHASES = ("before", "init", "unlearn")
_FRACTIONS = {"mia_auc", "mia_tpr_at_1_fpr", "tow"}

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Duration = Annotated[float, msgspec.Meta(ge=0)]
_Reads = list[Literal["retain", "forget", "classes", "probe"]]
_SUMMARY = ("mean", "std", "min", "max")
_Metric = msgspec.defstruct(
    "Metric", [*((name, float) for name in _SUMMARY), ("values", list[float])]
)
Access = msgspec.defstruct("Access", [(phase, _Reads) for phase in PHASES])
_Seconds = msgspec.defstruct(
    "Seconds", [(name, Duration) for name in ("init", "unlearn", "compile")]
)


class _Row(msgspec.Struct):  # One method on one request.
    method: Annotated[str, msgspec.Meta(min_length=1)]
    dataset: str
    model: str
    scenario: str
    request: str
    factors: dict[str, Any]
    access: Access | None
    seconds: _Seconds | None
    over: str
    n: Positive
    metrics: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    num_forgotten: Count | None = None
    num_train: Positive | None = None


class Head(msgspec.Struct, kw_only=True):
    """What every record begins with: when, where and by what it was made."""

    schema: Literal[1]
    command: str
    preset: str
    commit: str
    dirty: bool | Literal["unknown"]
    device: str
    versions: dict[str, str]
    config: dict[str, Any]
    seconds: Duration
    timed: Literal["all", "evaluation"] = "all"
    date: str | None = None


class _Document(Head, kw_only=True):
    rows: Annotated[list[_Row], msgspec.Meta(min_length=1)]


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
            the rows ``original``, ``retrain`` and ``ceiling``.

    Raises:
        ValueError: the message begins with the place, such as
            ``rows[2].metrics.forget_accuracy_test.values[0]``.
    """
    check_finite(document)
    convert(document, _Document)
    for index, row in enumerate(document["rows"]):
        for name, metric in row["metrics"].items():
            place = f"rows[{index}].metrics.{name}"
            convert(metric, _Metric, place)
            values = metric["values"]
            if len(values) != row["n"]:
                raise ValueError(
                    f"{place}.values: must be n={row['n']} numbers, got {len(values)}."
                )
            if "accuracy" in name or name in _FRACTIONS:
                for number, value in enumerate(values):
                    if not 0 <= value <= 1:
                        raise ValueError(
                            f"{place}.values[{number}]: must be a fraction in [0, 1], "
                            f"got {value}."
                        )
            # What does not follow from its values was edited, or computed otherwise.
            summary = metric_summary(values)
            for kind in _SUMMARY:
                wanted = summary[kind]
                if not math.isclose(metric[kind], wanted, rel_tol=1e-9, abs_tol=1e-12):
                    raise ValueError(
                        f"{place}.{kind}: must follow from the values, {wanted}, got "
                        f"{metric[kind]}."
                    )
    if references:
        check_references(document["rows"])


def by_subject(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """Group rows by what they are about: within a group they are comparable."""
    groups: dict[str, list] = {}
    for row in rows:
        groups.setdefault(" / ".join(row[key] for key in SUBJECT), []).append(row)
    return groups


def check_references(rows: Sequence[Mapping[str, Any]], min_seeds: int = 1) -> None:
    """Raise ValueError unless every group of rows has its reference rows.

    Args:
        rows: of a document.
        min_seeds: the fewest training seeds of the row ``retrain``.
    """
    if not rows:
        raise ValueError("rows: there are none, and so no reference rows.")
    for subject, group in by_subject(rows).items():
        seeds = {row["method"]: row["n"] for row in sorted(group, key=lambda r: r["n"])}
        for method in REFERENCES:
            if method not in seeds:
                raise ValueError(
                    f"rows: lack the reference row {method!r} for {subject}; there are "
                    f"{sorted(seeds)}."
                )
        if seeds["retrain"] < min_seeds:
            raise ValueError(
                f"rows: have n={seeds['retrain']} training seeds of the reference row "
                f"'retrain' for {subject}, fewer than {min_seeds}."
            )


def check_finite(document: Any) -> None:
    """Raise ValueError at the first value that is no JSON, or no finite number."""
    for place, leaf in _leaves(document):
        is_finite = isinstance(leaf, float) and math.isfinite(leaf)
        if not is_finite and not isinstance(leaf, str | int | None):
            raise ValueError(f"{place}: must be finite JSON, got {leaf!r}.")


def convert(value: Any, kind: Any, place: str = "") -> None:
    """Raise ValueError at the first place that is not of a kind.

    Args:
        value: of a document, or the whole of it.
        kind: as msgspec reads it.
        place: of the value, which the message begins with.
    """
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # A wrong key is "at `key` in" what holds it.
        message, _, inner = str(error).partition(" - at `")
        inner = inner.removeprefix("key` in `").strip("$`")
        place = (place + inner).lstrip(".") or "document"
        raise ValueError(f"{place}: {message}.") from error


def _leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a document, with its place."""
    if isinstance(tree, dict):
        for name, child in tree.items():
            if not isinstance(name, str):
                raise ValueError(f"{place or 'document'}: has the key {name!r}.")
            yield from _leaves(child, f"{place}.{name}" if place else name)
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from _leaves(child, f"{place}[{index}]")
    else:
        yield place or "document", tree
