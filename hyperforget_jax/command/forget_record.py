"""The record and the page of one model that was made to forget."""

import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hyperforget_jax import models, report
from hyperforget_jax.base import (
    Access,
    Classifier,
    Examples,
    ForgetRequest,
    Variables,
)
from hyperforget_jax.report.records import model_name

__all__ = ["ACCURACIES", "Answer", "accuracies", "write_record"]

ACCURACIES = {
    f"{half}_accuracy_{split}": f"{rows}, {split}"
    for half, rows in (("forget", "forgotten rows"), ("retain", "retained rows"))
    for split in ("train", "test")
}
"""What the accuracies before and after are called, and what they are."""


class Answer(NamedTuple):
    """What a method made of a model.

    Attributes:
        method: its name.
        before: the variables that it was given.
        after: those that it gave.
        access: what it reads when.
        seconds: ``{"init", "compile", "unlearn"}``.
        settings: the method's, by name.
    """

    method: str
    before: Variables
    after: Variables
    access: Access
    seconds: Mapping[str, float]
    settings: Mapping[str, Any]


def write_record(
    folder: pathlib.Path,
    classifier: Classifier,
    answer: Answer,
    request: ForgetRequest,
    test: Examples | None,
    *,
    dataset: str,
) -> dict[str, Any]:
    """Evaluate a model before and after, and write ``results.json``, ``report.html``.

    Args:
        folder: where to.
        classifier: the model.
        answer: what became of it.
        request: what was to be forgotten, with the training data.
        test: held-out examples. Without any the page has training rows alone.
        dataset: its name.

    Returns:
        The record.
    """
    name = answer.method
    if test is not None:
        return report.compare(
            folder,
            classifier,
            {name: answer.after},
            request,
            test,
            original=answer.before,
            dataset=dataset,
            access={name: answer.access},
            seconds={name: answer.seconds},
            settings={name: answer.settings},
        )
    started = time.perf_counter()
    labels = "+".join(map(str, np.flatnonzero(request.classes)))
    forgotten, kept = (
        int(np.count_nonzero(half.weight)) for half in (request.forget, request.retain)
    )
    rows = [
        report.results_row(
            method,
            [_on_training_rows(classifier, variables, request)],
            dataset=dataset,
            model=model_name(classifier),
            scenario="class" if labels else "rows",
            request=f"class {labels}" if labels else f"{forgotten} rows",
            access=access,
            seconds=seconds,
            num_forgotten=forgotten,
            num_train=forgotten + kept,
        )
        for method, variables, access, seconds in (
            ("original", answer.before, None, None),
            (name, answer.after, answer.access, answer.seconds),
        )
    ]
    document = report.results_document(
        rows,
        preset="",
        config={
            "classifier": classifier.description,
            "settings": {name: answer.settings},
        },
        seconds=time.perf_counter() - started,
        timed="evaluation",
    )
    report.write(folder / "results.json", document, references=False)
    report.write_report(folder / "report.html", document, references=False)
    return document


def accuracies(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return what is ``before`` and ``after``, on every half of the data with rows."""
    before, after = (row["metrics"] for row in document["rows"])
    return {
        name: {"before": before[name]["mean"], "after": after[name]["mean"]}
        for name in ACCURACIES
        if name in after
    }


def _on_training_rows(
    classifier: Classifier, variables: Variables, request: ForgetRequest
) -> dict[str, float]:
    found = {}
    for half, data in (("forget", request.forget), ("retain", request.retain)):
        there = np.flatnonzero(data.weight)
        logits = np.asarray(models.logits(classifier, variables, data.x))[there]
        if not np.isfinite(logits).all():
            raise ValueError(
                "The logits of a model are not finite: it has diverged, and no metric "
                "of it means anything."
            )
        right = logits.argmax(-1) == np.asarray(data.y)[there]
        weight = np.asarray(data.weight)[there]
        found[f"{half}_accuracy_train"] = float(np.average(right, weights=weight))
    return found
