"""The report: one page that shows what the methods forgot, and how to read it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperforget_jax import files
from hyperforget_jax.base import Array
from hyperforget_jax.report import sections
from hyperforget_jax.report.columns import Row, subject_of
from hyperforget_jax.report.page import escape, page
from hyperforget_jax.report.schema import check_references

__all__ = ["write_report"]


def write_report(
    path: str | os.PathLike,
    document: Mapping[str, Any],
    *,
    losses: Mapping[str, Mapping[str, np.ndarray | Array]] | None = None,
    per_class: Mapping[str, np.ndarray | Array] | None = None,
    title: str = "What was forgotten, and what was kept",
    forgotten: Sequence[int] | None = None,
    request: str | None = None,
    min_seeds: int = 5,
) -> None:
    """Writes a document of results as one self-contained page, whole or not at all.

    Equal arguments give equal files.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`results_document`, valid.
        losses: method to ``{"forget": [F], "test": [T]}``: losses in nats on forgotten
            training rows, and on test rows of the same kind. Left out: no histograms.
        per_class: method to accuracies on the test split, ``[seeds, C]``. Those of
            ``original`` are drawn beside every other's. Left out: no such figure.
        title: the page's.
        forgotten: the classes that ``per_class`` shades; by default those which no
            retrained model ever answers and the original sometimes does.
        request: which request ``losses`` and ``per_class`` belong to, for a document
            of several.
        min_seeds: the fewest training seeds of the retrained oracle. Lower it for a
            smoke run alone: the page then says that its numbers mean nothing.

    Raises:
        ValueError: for some request the original, the retrained oracle (with enough
            seeds) or the ceiling is missing; arrays of the wrong shape, empty, or
            holding NaN.
    """
    rows = document["rows"]
    check_references(rows, min_seeds)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(subject_of(row), []).append(row)
    whose = f" of {request}" if request else " of one of the requests"
    if len(groups) == 1:
        whose = ""

    parts = [
        f"<h1>{escape(title)}</h1>",
        sections.summary(groups),
        '<p><a href="#results">To the results</a></p>',
        "<h2>How to read the numbers</h2>",
        sections.definitions(rows),
        '<h2 id="results">Results</h2>',
    ]
    for number, (subject, group) in enumerate(groups.items()):
        if len(groups) > 1:
            parts.append(f"<h3>{escape(subject)}</h3>")
        parts += [
            sections.main_table(subject, group),
            sections.trade_off(group, number),
        ]
    if per_class:
        parts += [f"<h2>Accuracy class by class{escape(whose)}</h2>"]
        parts += [sections.per_class(_checked_accuracies(per_class), forgotten)]
    if losses:
        parts += [
            f"<h2>Losses{escape(whose)}</h2>",
            sections.loss_histograms(_checked_losses(losses)),
        ]
    parts += ["<h2>What each method reads, and when</h2>", sections.access_table(rows)]
    parts += ["<h2>Where this page comes from</h2>", sections.provenance(document)]
    text = page(title, parts)
    # A file name typed in another encoding must not cost the whole page.
    with files.whole(path, errors="replace") as file:
        file.write(text)


def _checked_accuracies(
    per_class: Mapping[str, np.ndarray | Array],
) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(values) for name, values in per_class.items()}
    num_classes = {values.shape[-1:] for values in arrays.values()}
    for name, values in arrays.items():
        good = values.ndim == 2 and values.size and len(num_classes) == 1
        if not good or not np.isfinite(values).all():
            raise ValueError(
                f"per_class[{name!r}] must be finite accuracies [seeds, C], with one C "
                f"for all methods; got shape {values.shape}."
            )
    return arrays


def _checked_losses(
    losses: Mapping[str, Mapping[str, np.ndarray | Array]],
) -> dict[str, dict[str, np.ndarray]]:
    checked: dict[str, dict[str, np.ndarray]] = {}
    for name, halves in losses.items():
        checked[name] = {}
        for half in ("forget", "test"):
            values = np.asarray(halves[half], np.float64)
            if values.ndim != 1 or not values.size or not np.all(values >= 0):
                raise ValueError(
                    f"losses[{name!r}][{half!r}] must be non-negative numbers, at "
                    f"least one, in one dimension; got shape {values.shape}."
                )
            checked[name][half] = values
    return checked
