"""The report: one page that shows what the methods forgot, and how to read it."""

import base64
import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from hyperforget_jax.base import Array
from hyperforget_jax.report import columns, figures, verdicts
from hyperforget_jax.report.columns import Row
from hyperforget_jax.report.rendering import access_of, write_page
from hyperforget_jax.report.schema import (
    REFERENCES,
    by_subject,
    check_references,
)

__all__ = ["write_report"]


def write_report(
    path: str | os.PathLike,
    document: Mapping[str, Any],
    *,
    losses: Mapping[str, Mapping[str, np.ndarray | Array]] | None = None,
    per_class: Mapping[str, np.ndarray | Array] | None = None,
    pictures: Sequence[tuple[str, str, bytes | str]] = (),
    title: str = "What was forgotten, and what was kept",
    forgotten: Sequence[int] | None = None,
    min_seeds: int = 5,
    references: bool = True,
) -> None:
    """Write a document of results as one self-contained page, whole or not at all.

    Equal arguments give equal files.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`results_document`, valid.
        losses: method to ``{"forget": [F], "test": [T]}``: losses in nats on forgotten
            training rows, and on test rows of the same kind. Left out: no histograms.
        per_class: method to accuracies on the test split, ``[seeds, C]``. Those of
            ``original`` are drawn beside every other's. Left out: no such figure.
        pictures: ``(title, caption, image)`` each, such as a network before and after
            a request; the image is the bytes of a PNG or the source of an SVG.
        title: the page's.
        forgotten: the classes that ``per_class`` shades; by default those which no
            retrained model ever predicts and the original sometimes does.
        min_seeds: the fewest training seeds of the row ``retrain``. Lower it for a
            smoke run alone: the page then says that its numbers mean nothing.
        references: whether every request must come with its reference rows. Without
            them most verdicts say what was not measured.

    Raises:
        ValueError: for some request the original, retraining (with enough seeds) or
            the ceiling is missing; arrays of the wrong shape, empty, or
            holding NaN; a picture that is neither PNG nor SVG.
    """
    rows = document["rows"]
    if references:
        check_references(rows, min_seeds)
    groups = by_subject(rows)
    subjects = [_subject(*each) for each in enumerate(groups.items())]
    tally: dict[str, collections.Counter] = {}
    for subject in subjects:
        for row, found in subject["verdicts"]:
            tally.setdefault(row["method"], collections.Counter())[found.headline] += 1
    accuracies = {
        name: _array(f"per_class[{name!r}]", values, 2, 1.0)
        for name, values in sorted((per_class or {}).items(), key=_by_rank)
    }
    if forgotten is None:
        forgotten = _never_predicted(accuracies)
    halves = {
        name: {
            half: _array(f"losses[{name!r}][{half!r}]", both[half], 1, np.inf)
            for half in ("forget", "test")
        }
        for name, both in sorted((losses or {}).items(), key=_by_rank)
    }
    in_order = sorted(rows, key=lambda row: _by_rank((row["method"], row)))
    write_page(
        path,
        "report.html.j2",
        title=title,
        document=document,
        subjects=subjects,
        tally=tally,
        rules=verdicts.RULES,
        columns=[
            c for c in columns.COLUMNS if any(c.metric in r["metrics"] for r in rows)
        ],
        seeds=min((r["n"] for r in rows if r["method"] == "retrain"), default=0),
        datasets=sorted({row["dataset"] for row in rows}),
        models=sorted({row["model"] for row in rows}),
        **access_of(in_order),
        settings=columns.flat(document["config"]),
        whose=" of one of the requests" if len(groups) > 1 else "",
        class_figures=_class_figures(accuracies, forgotten),
        loss_figures=_loss_figures(halves),
        forgotten=forgotten,
        has_before="original" in accuracies,
        pictures=[
            (name, said, _data_uri(name, image)) for name, said, image in pictures
        ],
        factors=columns.factors,
        is_cut_short=columns.is_cut_short,
    )


def _subject(number: int, item: tuple[str, Sequence[Row]]) -> dict[str, Any]:
    """Gather what the page says of one request."""
    name, group = item
    references, methods, checks = columns.sorted_rows(group)
    return {
        "name": name,
        "first": max(group, key=lambda row: "num_forgotten" in row),
        "verdicts": [
            (row, verdicts.verdict(row, columns.references_of(row, group)))
            for row in methods
        ],
        "parts": {"references": references, "methods": methods, "checks": checks},
        "targets": {row["method"]: row for row in reversed(references)},
        "counts": sorted({row["n"] for row in group}),
        "over": sorted({row["over"].replace("_", " ") + "s" for row in group}),
        "figures": _trade_off(references + methods, number),
    }


def _trade_off(group: Sequence[Row], number: int) -> list[Markup]:
    """Draw forget against retain accuracy: everything, and where the crowd is."""
    # Rows drawn from every class leave no test split to forget.
    in_test = any("forget_accuracy_test" in row["metrics"] for row in group)
    split = "test" if in_test else "train"
    names = (f"forget_accuracy_{split}", "retain_accuracy_test")
    points = []
    for row in group:
        if row["method"] == "ceiling" or not set(names) <= set(row["metrics"]):
            continue  # The ceiling's are retraining's own.
        is_alone = sum(other["method"] == row["method"] for other in group) == 1
        extra = [] if is_alone else columns.factors(row)
        x, y = ((row["metrics"][n]["mean"], row["metrics"][n]["std"]) for n in names)
        place = None if row["method"] in REFERENCES else len(points)
        points.append(figures.Point(" ".join([row["method"], *extra]), x, y, place))
    panels = [points] if points else []
    for centre in [point for point in points if point.label == "retrain"]:
        near = [
            point
            for point in points
            if abs(point.x[0] - centre.x[0]) <= 0.1
            and abs(point.y[0] - centre.y[0]) <= 0.02
        ]
        panels += [near] if 3 <= len(near) < len(points) else []
    return [
        Markup(
            figures.trade_off(
                panel,
                id=f"trade-off-{number}-{index}",
                description="Forget and retain accuracy: "
                + "; ".join(f"{p.label} {p.x[0]:.3f} and {p.y[0]:.3f}" for p in panel),
                x_label=f"forget accuracy, {split}"
                + " (near retraining)" * bool(index),
                y_label="retain accuracy, test",
            )
        )
        for index, panel in enumerate(panels)
    ]


def _class_figures(
    accuracies: Mapping[str, np.ndarray], forgotten: Sequence[int]
) -> list[Markup]:
    """Draw a panel for every method but the original, which is in all of them."""
    if len({values.shape[1] for values in accuracies.values()}) > 1:
        raise ValueError("per_class must have one C, in [seeds, C], for all methods.")
    return [
        Markup(
            figures.per_class(
                None if name == "original" else accuracies.get("original"),
                after,
                forgotten=forgotten,
                id=f"class-{number}",
                description=f"{name}: accuracy by class: "
                + ", ".join(f"{value:.2f}" for value in after.mean(axis=0)),
                title=name,
            )
        )
        for number, (name, after) in enumerate(accuracies.items())
        if name != "original" or len(accuracies) == 1
    ]


def _loss_figures(losses: Mapping[str, Mapping[str, np.ndarray]]) -> list[Markup]:
    """Draw a panel for every method."""
    drawn = []
    for number, (name, halves) in enumerate(losses.items()):
        medians = (np.median(halves[half]) for half in ("forget", "test"))
        description = (
            "{}: median loss {:.3g} on forgotten training rows and {:.3g} on test rows"
        ).format(name, *medians)
        figure = figures.losses(
            **halves, id=f"loss-{number}", description=description, title=name
        )
        drawn.append(Markup(figure))
    return drawn


def _array(name: str, values: Any, ndim: int, most: float) -> np.ndarray:
    array = np.asarray(values, np.float64)
    in_range = np.all((array >= 0) & (array <= most))  # And so no NaN.
    if array.ndim != ndim or not array.size or not in_range:
        raise ValueError(
            f"{name} must be an array of {ndim} axes, not empty, of numbers in "
            f"[0, {most:g}]; got shape {array.shape}."
        )
    return array


def _never_predicted(accuracies: Mapping[str, np.ndarray]) -> list[int]:
    """Return the classes that retraining never predicts, unlike the original."""
    if not {"retrain", "original"} <= set(accuracies):
        return []
    never = np.all(accuracies["retrain"] == 0, axis=0)
    return np.flatnonzero(never & np.any(accuracies["original"] > 0, axis=0)).tolist()


def _data_uri(name: str, image: bytes | str) -> str:
    """Return an address that holds the image; as an image, an SVG runs nothing."""
    data = image.encode() if isinstance(image, str) else image
    is_png = data.startswith(b"\x89PNG\r\n\x1a\n")
    if not is_png and b"<svg" not in data[:2000]:
        raise ValueError(
            f"The picture {name!r} must be a PNG or an SVG, got {data[:20]}."
        )
    kind = "png" if is_png else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _by_rank(item: tuple[str, Any]) -> int:
    """Sort references first, in order, and others as they came."""
    return REFERENCES.index(item[0]) if item[0] in REFERENCES else len(REFERENCES)
