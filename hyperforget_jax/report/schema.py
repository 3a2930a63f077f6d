"""The schema of results, and the checks that hold it.

Schema 1: ``{"schema", "command", "preset", "commit", "dirty", "device", "versions",
"config", "seconds", "rows"}``. A row is one method on one request: ``{"method",
"dataset", "model", "scenario", "request", "factors", "access", "seconds", "over", "n",
"metrics"}``, and a metric is ``{"mean", "std", "min", "max", "values"}``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "PHASES",
    "REFERENCES",
    "SCHEMA",
    "check_references",
    "metric_summary",
    "validate",
]

SCHEMA = 1
REFERENCES = ("original", "retrain", "ceiling")
"""The methods without which no other number can be read."""

PHASES = ("before", "init", "unlearn")
_READS = {"retain", "forget", "classes", "probe"}
_TIMES = ("init", "unlearn", "compile")
_NUMBERS = ("mean", "std", "min", "max")
_FRACTIONS = {"mia_auc", "mia_tpr_at_1_fpr", "tow"}


def metric_summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (zero for one value), range, and the values.

    Args:
        values: finite, in seed order, at least one. Nine digits of them are kept, all
            that float32 has.

    Raises:
        ValueError: no values, or some that are not finite.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(
            "values must be a list with at least one number, got shape "
            f"{numbers.shape}."
        )
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"values must be finite, got {numbers.tolist()}: leave a metric out that "
            "does not exist."
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
    """Raises ValueError at the first place where a document breaks the schema.

    Args:
        document: as made by :func:`results_document`, or read from a file.
        references: whether every dataset, model, scenario and request must come with
            the rows of :data:`REFERENCES`. Only a benchmark of speed has none.

    Raises:
        ValueError: the message begins with the place, such as
            ``rows[2].metrics.forget_accuracy_test.values[0]``.
    """
    _check_plain(document, "")
    _check_keys(
        document,
        "",
        schema=int,
        command=str,
        preset=str,
        commit=str,
        dirty=(bool, str),
        device=str,
        versions=dict,
        config=dict,
        seconds=(int, float),
        rows=list,
    )
    _require(
        document["schema"] == SCHEMA,
        "schema",
        f"must be {SCHEMA}, got {document['schema']}",
    )
    _require(
        isinstance(document["dirty"], bool) or document["dirty"] == "unknown",
        "dirty",
        "must be true, false or 'unknown'",
    )
    _require(document["seconds"] >= 0, "seconds", "must not be negative")
    _require(bool(document["rows"]), "rows", "must not be empty")
    for index, row in enumerate(document["rows"]):
        _check_row(row, f"rows[{index}]")
    if references:
        check_references(document["rows"])


def check_references(rows: Sequence[Mapping[str, Any]], min_seeds: int = 1) -> None:
    """Raises ValueError unless every group of rows has its reference rows.

    Args:
        rows: of a document. A group is one dataset, model, scenario and request.
        min_seeds: the fewest training seeds of the retrained oracle.
    """
    groups: dict[tuple, dict[str, int]] = {}
    for row in rows:
        group = tuple(row[key] for key in ("dataset", "model", "scenario", "request"))
        seeds = groups.setdefault(group, {})
        seeds[row["method"]] = max(seeds.get(row["method"], 0), row["n"])
    if not groups:
        raise ValueError("rows: there are none, and so no reference rows.")
    for group, seeds in groups.items():
        for method in REFERENCES:
            _require(
                method in seeds,
                "rows",
                f"lack the reference row {method!r} for {' / '.join(group)}; there "
                f"are {sorted(seeds)}",
            )
        _require(
            seeds["retrain"] >= min_seeds,
            "rows",
            f"have n={seeds['retrain']} training seeds of the reference row 'retrain' "
            f"for {' / '.join(group)}, fewer than {min_seeds}",
        )


def _check_row(row: Any, path: str) -> None:
    _check_keys(
        row,
        path,
        method=str,
        dataset=str,
        model=str,
        scenario=str,
        request=str,
        factors=dict,
        access=dict,
        seconds=dict,
        over=str,
        n=int,
        metrics=dict,
    )
    _require(bool(row["method"]), f"{path}.method", "must not be empty")
    _require(row["n"] >= 1, f"{path}.n", f"must be at least 1, got {row['n']}")
    _check_keys(row["access"], f"{path}.access", **dict.fromkeys(PHASES, list))
    for phase in PHASES:
        for index, word in enumerate(row["access"][phase]):
            _require(
                isinstance(word, str) and word in _READS,
                f"{path}.access.{phase}[{index}]",
                f"must be one of {sorted(_READS)}, got {word!r}",
            )
    number = (int, float)
    _check_keys(row["seconds"], f"{path}.seconds", **dict.fromkeys(_TIMES, number))
    for name in _TIMES:
        _require(
            row["seconds"][name] >= 0, f"{path}.seconds.{name}", "must not be negative"
        )
    _require(bool(row["metrics"]), f"{path}.metrics", "must not be empty")
    for name, metric in row["metrics"].items():
        _check_metric(name, metric, row["n"], f"{path}.metrics.{name}")


def _check_metric(name: str, metric: Any, num_values: int, path: str) -> None:
    kinds: dict[str, Any] = dict.fromkeys(_NUMBERS, (int, float))
    _check_keys(metric, path, **kinds, values=list)
    values = metric["values"]
    _require(
        len(values) == num_values,
        f"{path}.values",
        f"must be n={num_values} numbers, got {len(values)}",
    )
    is_fraction = "accuracy" in name or name in _FRACTIONS
    for index, value in enumerate(values):
        place = f"{path}.values[{index}]"
        _require(_is_a(value, (int, float)), place, f"must be a number, got {value!r}")
        _require(
            not is_fraction or 0 <= value <= 1,
            place,
            f"must be a fraction in [0, 1], got {value}",
        )
    # A figure that does not follow from its values was edited, or computed otherwise.
    expected = metric_summary(values)
    for number in _NUMBERS:
        _require(
            math.isclose(metric[number], expected[number], rel_tol=1e-9, abs_tol=1e-12),
            f"{path}.{number}",
            f"must follow from the values, {expected[number]}, got {metric[number]}",
        )


def _check_keys(mapping: Any, path: str, **kinds: Any) -> None:
    """Raises unless ``mapping`` is a dict that holds every key, of the kind given."""
    _require(isinstance(mapping, dict), path or "document", "must be an object")
    for key, kind in kinds.items():
        place = f"{path}.{key}" if path else key
        _require(key in mapping, place, "is missing")
        _require(
            _is_a(mapping[key], kind),
            place,
            f"has the wrong type, {type(mapping[key]).__name__}",
        )


def _is_a(value: Any, kind: Any) -> bool:
    # bool is a subclass of int, and true is not a number here.
    if isinstance(value, bool):
        return kind is bool or (isinstance(kind, tuple) and bool in kind)
    return isinstance(value, kind)


def _check_plain(value: Any, path: str) -> None:
    """Raises unless a tree is JSON all through, without NaN or infinity."""
    if isinstance(value, dict):
        for key, child in value.items():
            _require(isinstance(key, str), path or "document", f"has the key {key!r}")
            _check_plain(child, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _check_plain(child, f"{path}[{index}]")
    elif isinstance(value, float):
        _require(math.isfinite(value), path, f"must be finite, got {value}")
    else:
        _require(
            value is None or isinstance(value, (str, bool, int)),
            path or "document",
            f"is a {type(value).__name__}, which JSON does not have",
        )


def _require(condition: bool, path: str, message: str) -> None:
    if not condition:
        raise ValueError(f"{path}: {message}.")
