"""The page of an audit study: what is distinguished from retrained models, by what."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hyperforget_jax.report import audit_figures, columns
from hyperforget_jax.report.audit_records import validate_audit
from hyperforget_jax.report.audit_verdicts import AUDIT_RULES, audit_verdict
from hyperforget_jax.report.columns import Row
from hyperforget_jax.report.rendering import access_of, write_page
from hyperforget_jax.report.schema import by_subject

__all__ = ["audit_notes", "scenario_title", "write_audit_page"]

_MEANINGS = {  # Of audits whose name begins so.
    "accuracy": "The difference of mean accuracies on the forgotten rows.",
    "mean confidence": "How far an example’s mean confidence, log p − log(1 − p) of "
    "its own label, is from retrained models’, averaged over examples.",
    "u-lira": "How often U-LiRA is right that a model unlearned an example, by two "
    "normals fitted to other models. 0.5 is guessing.",
    "ruli": "The same by kernel densities, the efficacy game of RULI.",
    "klom": "Divergence of unlearned models’ margins from retrained ones’, in nats, of "
    "the example at the 95th percentile. 11.5 is the most there is.",
    "reverse klom": "The same from retrained models to unlearned ones.",
    "1 - forgetting score": "One less the score of the NeurIPS 2023 challenge. Its "
    "floor is not 0, for any number of models.",
    "epsilon, lower bound": "The least epsilon that fits the errors of a threshold "
    "chosen on other models.",
    "u-lira, auc": "How well U-LiRA ranks examples by whether the model unlearned "
    "them. 0.5 is guessing.",
    "u-lira, true positives": "The share of them that it finds where so many others "
    "are accused.",
    "offline lira": "The same by retrained models alone, who look for examples that "
    "the model is too sure of. Far below the floor tells as well: it is too unsure.",
    "rmia": "The same by comparison with other examples: RMIA. It looks for examples "
    "that the model is too sure of, as offline LiRA does.",
    "few_shot": "Accuracy on unseen examples of the forgotten class after a few steps "
    "on so many of it.",
    "probe": "Accuracy of a linear probe of the last hidden layer on them.",
    "forget_accuracy": "Accuracy on the forgotten rows, with weights as they are or "
    "rounded.",
    "forget_phi": "Mean confidence on the forgotten rows, likewise.",
    "inversion": "The share of images made from the model for the forgotten class that "
    "another original model takes for it.",
    "neighbours": "AUC by the probabilities of the other classes. 0.5 is guessing.",
}
_METRICS = {column.metric: column.heading for column in columns.COLUMNS} | {
    "test_accuracy": "Test accuracy",
    "attack_success": "Success of the trigger",
}


def write_audit_page(
    path: str | os.PathLike,
    document: Mapping[str, Any],
    *,
    title: str = "Is the forgetting detectable?",
) -> None:
    """Write a document of audits as one self-contained page, whole or not at all.

    Equal arguments give equal files.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`audit_document`.
        title: the page's.

    Raises:
        ValueError: a document that is not valid, with the place.
    """
    validate_audit(document)
    rows = document["rows"]
    groups = by_subject(rows)
    names = list(dict.fromkeys(f["audit"] for row in rows for f in row["audits"]))
    known = dict.fromkeys(
        max((key for key in _MEANINGS if name.startswith(key)), key=len, default="")
        for name in names
    )
    write_page(
        path,
        "audit.html.j2",
        title=title,
        document=document,
        subjects=[_subject(*each) for each in enumerate(groups.items())],
        rules=AUDIT_RULES,
        meanings=[(name, _MEANINGS[name]) for name in known if name],
        datasets=sorted({row["dataset"] for row in rows}),
        models=sorted({row["model"] for row in rows}),
        sides=sorted({row["a_side"] for row in rows}),
        levels=sorted({row["level"] for row in rows}),
        metric_names=_METRICS,
        settings=columns.flat(document["config"]),
        **access_of(rows),
    )


def _subject(number: int, item: tuple[str, Sequence[Row]]) -> dict[str, Any]:
    """Gather what the page says of one request."""
    name, rows = item
    audits = list(dict.fromkeys(f["audit"] for row in rows for f in row["audits"]))
    tested = {f["audit"] for row in rows for f in row["audits"] if f["p"] is not None}
    notes = audit_notes((f["audit"], f["note"]) for row in rows for f in row["audits"])
    references = {}
    for row in reversed(rows):
        references |= row["reference_metrics"]
    every = [*references.values(), *(row["metrics"] for row in rows)]
    known = list(dict.fromkeys(metric for metrics in every for metric in metrics))
    return {
        "name": name,
        "short": scenario_title(rows[0]),
        "rows": rows,
        "found": [{f["audit"]: f for f in row["audits"]} for row in rows],
        "verdicts": [(row["method"], audit_verdict(row)) for row in rows],
        "audits": {
            "tested": [audit for audit in audits if audit in tested],
            "untested": [audit for audit in audits if audit not in tested],
        },
        "notes": notes,
        "references": {
            kind: references[kind]
            for kind in ("original", "retrained")
            if kind in references
        },
        # In the order in which the report has them; others as they came.
        "metrics": sorted(known, key=_rank),
        "sizes": list(dict.fromkeys(_size(row) for row in rows)),
        "curves": _curves(rows, number),
        "negatives": sorted(
            {round(1 / c["fpr"][0]) for row in rows for c in row["roc"]}
        ),
        "histograms": _histograms(rows, number),
    }


def audit_notes(notes: Iterable[tuple[str, str]]) -> list[str]:
    """List what audits cannot say, a line a note, after the audits that have it.

    Args:
        notes: an audit's name and its note, empty for none.
    """
    audits: dict[str, dict[str, None]] = {}
    for name, note in notes:
        if note:
            audits.setdefault(note, {})[name] = None
    return [f"{', '.join(names)}: {note}" for note, names in audits.items()]


def scenario_title(row: Row) -> str:
    """Say what was to be forgotten: ``class 3``, or ``random: 2 % of the rows``."""
    scenario, request = row["scenario"], row["request"]
    return request if scenario in request else f"{scenario}: {request}"


def _size(row: Row) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in row["models"].items())
    return f"{counts} models, {row['a_side']} a side; {row['examples']} examples"


def _rank(metric: str) -> int:
    order = list(_METRICS)
    return order.index(metric) if metric in order else len(order)


def _curves(rows: Sequence[Row], number: int) -> list[Markup]:
    """Draw a panel an attack, all methods in it."""
    attacks: dict[str, list[audit_figures.Curve]] = {}
    for row in rows:
        for curve in row["roc"]:
            curves = attacks.setdefault(curve["attack"], [])
            curves.append(
                audit_figures.Curve(row["method"], curve["fpr"], curve["tpr"])
            )
    return [
        Markup(
            audit_figures.roc(
                curves,
                id=f"roc-{number}-{index}",
                description=f"{attack}: true positives at the fewest false ones: "
                + ", ".join(f"{curve.label} {curve.tpr[0]:.3g}" for curve in curves),
                title=attack,
            )
        )
        for index, (attack, curves) in enumerate(attacks.items())
    ]


def _histograms(rows: Sequence[Row], number: int) -> list[Markup]:
    """Draw a panel an example and method."""
    drawn = []
    for place, row in enumerate(rows):
        for histogram in row["histograms"]:
            what = f"{row['method']}, example {histogram['example']}"
            centres = ", ".join(
                f"{kind} {_centre(histogram, kind)}"
                for kind in ("original", "retrained", "unlearned")
            )
            figure = audit_figures.confidences(
                histogram,
                id=f"confidence-{number}-{place}-{len(drawn)}",
                description=f"{what}: median confidences: {centres}",
                title=what,
            )
            drawn.append(Markup(figure))
    return drawn


def _centre(histogram: Mapping[str, Any], kind: str) -> str:
    """Say in which bin the median is, by its middle."""
    counts, edges = histogram[kind], histogram["edges"]
    below = 0
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        below += count
        if 2 * below >= sum(counts) > 0:
            return f"{(low + high) / 2:.1f}"
    return "none"
