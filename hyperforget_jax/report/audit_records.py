"""The record of an audit study: its rows built, and the whole written and read."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from hyperforget_jax.audits import Audited, Judgement
from hyperforget_jax.base import Access as Reads
from hyperforget_jax.report.records import (
    plain,
    read_json,
    reads,
    results_document,
    write_json,
)
from hyperforget_jax.report.schema import (
    SUBJECT,
    Access,
    Count,
    Duration,
    Head,
    Positive,
    check_finite,
    convert,
)

__all__ = [
    "TIERS",
    "audit_document",
    "audit_row",
    "read_audit",
    "validate_audit",
    "write_audit",
]

TIERS = ("smoke", "standard", "full")
"""How many models there are; those of a smoke run find large differences alone."""

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Pair = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]
_Metric = msgspec.defstruct(
    "Metric", [(name, float) for name in ("mean", "std", "min", "max")]
)
_Models = msgspec.defstruct(
    "Models", [(kind, Count) for kind in ("original", "retrained", "unlearned")]
)


class _Audit(msgspec.Struct):
    audit: _Name
    value: float | None
    interval: _Pair | None
    floor: float | None
    original: float | None
    p: _Share | None
    note: str


class _Roc(msgspec.Struct):
    attack: _Name
    fpr: Annotated[list[_Share], msgspec.Meta(min_length=1)]
    tpr: Annotated[list[_Share], msgspec.Meta(min_length=1)]


class _Histogram(msgspec.Struct):
    example: Count
    edges: Annotated[list[float], msgspec.Meta(min_length=2)]
    original: list[Count]
    retrained: list[Count]
    unlearned: list[Count]


class _Seconds(msgspec.Struct):
    unlearn: Duration
    init: Duration = 0.0


class _Row(msgspec.Struct):  # One method on one request.
    method: _Name
    scenario: str
    request: str
    dataset: str
    model: str
    access: Access | None
    models: _Models
    a_side: Count
    examples: Positive
    level: _Share
    audits: Annotated[list[_Audit], msgspec.Meta(min_length=1)]
    accused_by: list[str]
    verdict: str
    metrics: dict[str, _Metric]
    reference_metrics: dict[Literal["original", "retrained"], dict[str, _Metric]]
    roc: list[_Roc]
    histograms: list[_Histogram]
    seconds: _Seconds | None
    settings: dict[str, float | str] = {}
    stored_bytes: Count | None = None


class _Document(Head, kw_only=True):
    tier: Literal["smoke", "standard", "full"]
    rows: Annotated[list[_Row], msgspec.Meta(min_length=1)]


def audit_row(
    judgement: Judgement,
    *,
    method: str,
    scenario: str,
    request: str,
    dataset: str,
    model: str,
    access: Reads | None = None,
    settings: Mapping[str, float | str] | None = None,
    seconds: Mapping[str, float] | None = None,
    stored_bytes: int | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    reference_metrics: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    more: Sequence[Audited] = (),
    roc: Sequence[Mapping[str, Any]] = (),
    histograms: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Build one row: one method and one request.

    Args:
        judgement: of the method's models.
        method: its name.
        scenario: the kind of request, such as ``"class"`` or ``"backdoor"``.
        request: what was to be forgotten.
        dataset: its name.
        model: what the classifier is.
        access: what the method reads when; None where it is not known.
        settings: the method's, where they are not its defaults.
        seconds: ``{"unlearn"}`` and perhaps ``{"init"}``, per model; None if unknown.
        stored_bytes: what the method keeps beside the model; None if unknown.
        metrics: what the unlearned models can do, by name, such as
            ``retain_accuracy_test``: ``{"mean", "std", "min", "max"}`` over models.
            Accuracies and ``attack_success`` are fractions. None if nothing is known.
        reference_metrics: the same of ``original`` and ``retrained`` models.
        more: other audits, which have no ``p``.
        roc: ``{"attack", "fpr", "tpr"}`` each. Rates of false positives rise from the
            least that can be resolved, one over the number of negative scores.
        histograms: ``{"example", "edges", "original", "retrained", "unlearned"}`` each:
            how many models of each kind have a logit-scaled confidence between two
            edges.
    """
    row = {
        "method": method,
        "scenario": scenario,
        "request": request,
        "dataset": dataset,
        "model": model,
        "access": reads(access),
        "models": dict(judgement.models),
        "a_side": judgement.a_side,
        "examples": judgement.examples,
        "level": judgement.level,
        "audits": [dataclasses.asdict(each) for each in (*judgement.audits, *more)],
        "accused_by": judgement.accused_by,
        "verdict": judgement.verdict,
        "metrics": metrics or {},
        "reference_metrics": reference_metrics or {},
        "roc": roc,
        "histograms": histograms,
        "seconds": seconds,
        "settings": settings or {},
        "stored_bytes": stored_bytes,
    }
    return plain(row)


def audit_document(
    rows: Sequence[Mapping[str, Any]],
    *,
    preset: str,
    tier: str,
    config: Any,
    seconds: float,
    repository: str | os.PathLike = ".",
) -> dict[str, Any]:
    """Build the whole record, with where, when and by what it was made.

    Args:
        rows: from :func:`audit_row`.
        preset: the preset's name, or nothing.
        tier: one of :data:`TIERS`.
        config: as for :func:`results_document`.
        seconds: wall-clock time of the study.
        repository: as for :func:`results_document`.
    """
    head = results_document(
        rows, preset=preset, config=config, seconds=seconds, repository=repository
    )
    rows = head.pop("rows")
    return {**head, "tier": tier, "rows": rows}


def validate_audit(document: Any) -> None:
    """Raise ValueError at the first place where a document is no record of audits.

    Args:
        document: as made by :func:`audit_document`, or read from a file.

    Raises:
        ValueError: the message begins with the place, such as ``rows[2].audits[0].p``.
    """
    check_finite(document)
    convert(document, _Document)
    seen = set()
    for index, row in enumerate(document["rows"]):
        for place, said in _faults(row):
            raise ValueError(f"rows[{index}].{place}: {said}.")
        what = tuple(row[name] for name in ("method", *SUBJECT))
        if what in seen:
            raise ValueError(f"rows[{index}]: is a second row of {' / '.join(what)}.")
        seen.add(what)


def write_audit(path: str | os.PathLike, document: Mapping[str, Any]) -> None:
    """Validate a document of audits and write it as JSON: whole, or not at all.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`audit_document`.
    """
    validate_audit(document)
    write_json(path, document)


def read_audit(path: str | os.PathLike) -> dict[str, Any]:
    """Read a document of audits and validate it.

    Raises:
        ValueError: not JSON, or not this schema; the message names the file.
    """
    return read_json(path, validate_audit)


def _faults(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what types do not hold: its place, and what is wrong."""
    names = [found["audit"] for found in row["audits"]]
    for index, found in enumerate(row["audits"]):
        place = f"audits[{index}]"
        if names.index(found["audit"]) != index:
            yield f"{place}.audit", f"{found['audit']!r} is there already"
        low, high = found["interval"] or (0, 0)
        if low > high:
            yield f"{place}.interval", f"must not fall, got {low} to {high}"
        for name in ("interval", "p"):
            if found["value"] is None and found[name] is not None:
                yield f"{place}.{name}", "must be null where there is no value"
    # What does not follow from the audits was edited, or computed otherwise.
    audits = tuple(
        Audited(found["audit"], found["value"], p=found["p"]) for found in row["audits"]
    )
    sizes = (row["models"], row["a_side"], row["examples"])
    accused = list(Judgement(*sizes, audits, row["level"]).accused_by)
    if sorted(row["accused_by"]) != sorted(accused):
        said = f"must follow from the audits, {accused}, got {row['accused_by']}"
        yield "accused_by", said
    kinds = {"metrics": row["metrics"]}
    for kind, metrics in row["reference_metrics"].items():
        kinds[f"reference_metrics.{kind}"] = metrics
    for kind, metrics in kinds.items():
        for name, one in metrics.items():
            # A mean of equal values may be off by a last digit.
            most = one["max"] + 1e-9 * abs(one["max"])
            least = one["min"] - 1e-9 * abs(one["min"])
            if not least <= one["mean"] <= most or one["std"] < 0:
                said = "must have min <= mean <= max and no negative std"
                yield f"{kind}.{name}", f"{said}, got {one}"
            is_share = "accuracy" in name or name == "attack_success"
            if is_share and not 0 <= one["min"] <= one["max"] <= 1:
                yield f"{kind}.{name}", f"must be fractions in [0, 1], got {one}"
    for index, curve in enumerate(row["roc"]):
        fpr, tpr = curve["fpr"], curve["tpr"]
        if len(fpr) != len(tpr):
            said = f"must be as many as fpr, {len(fpr)}, got {len(tpr)}"
            yield f"roc[{index}].tpr", said
        if fpr[0] <= 0:
            yield f"roc[{index}].fpr[0]", "must be the least that can be resolved"
        for name in ("fpr", "tpr"):
            if np.any(np.diff(curve[name]) < 0):
                yield f"roc[{index}].{name}", "must not fall"
    for index, one in enumerate(row["histograms"]):
        place, bins = f"histograms[{index}]", len(one["edges"]) - 1
        if np.any(np.diff(one["edges"]) <= 0):
            yield f"{place}.edges", "must rise"
        for kind in ("original", "retrained", "unlearned"):
            if len(one[kind]) != bins:
                said = f"must be {bins} counts, one between two edges"
                yield f"{place}.{kind}", f"{said}, got {len(one[kind])}"
