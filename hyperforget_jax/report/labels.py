"""Labels that fit a figure, each where it covers nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["place", "printable", "short"]

_LONGEST = 28
_LINE_HEIGHT = 12.0


def place(
    figure: Any,
    axes: Any,
    texts: Sequence[Any],
    points: Sequence[tuple[float, float]],
    *,
    line_colour: str,
) -> None:
    """Puts every label beside its point, those of a crowd in a column beside it.

    Where a column would cover something, what it covers joins the crowd.

    Args:
        figure: matplotlib's, with room for labels on the right of its axes.
        axes: the figure's, with its limits set.
        texts: the labels, aligned left and centred, in the figure's own coordinates.
        points: of each, in the coordinates of the data.
        line_colour: of the lines between the labels of a crowd and their points.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = np.array(axes.get_window_extent(renderer).extents)
    # Labels may leave the axes on the right, where room is kept for them.
    frame[2] = figure.bbox.width - 2
    centres = axes.transData.transform(points)
    widths = np.array([text.get_window_extent(renderer).width for text in texts])
    crowds = [[index] for index in range(len(points))]
    while True:
        columns = [_column(centres[c], widths[c], frame) for c in crowds]
        pair = _collision(columns, [centres[crowd] for crowd in crowds])
        if pair is None:
            break
        crowds[pair[0]] += crowds.pop(pair[1])

    for crowd, column in zip(crowds, columns, strict=True):
        for index, (left, bottom, right, top) in zip(crowd, column, strict=True):
            middle = (bottom + top) / 2
            texts[index].set_position((left, middle))
            if len(crowd) > 1:
                x, y = centres[index]
                end = left - 2 if left > x else right + 2
                axes.plot(
                    [x, end],
                    [y, middle],
                    color=line_colour,
                    linewidth=0.6,
                    transform=None,
                    zorder=2.5,
                )


def short(label: str) -> str:
    """The label, printable, and cut where it is too long for a figure."""
    label = printable(label)
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"


def printable(text: str) -> str:
    """The text on one line, without the characters that XML has no place for."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _column(points: np.ndarray, widths: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Boxes for the labels of a crowd, ``(left, bottom, right, top)`` each, ``[K, 4]``.

    In the points' order from top to bottom, so that the lines to them hardly cross.

    Args:
        points: places in the figure, ``[K, 2]``.
        widths: of the labels, ``[K]``.
        frame: the box that labels stay in.
    """
    gap = 9 if len(points) == 1 else 24  # A line to a point wants some length.
    left = np.full(len(points), points[:, 0].max() + gap)
    if np.any(left + widths > frame[2]):
        left = np.maximum(points[:, 0].min() - gap - widths, frame[0] + 2)
    line = min(_LINE_HEIGHT, (frame[3] - frame[1]) / len(points))
    order = np.argsort(-points[:, 1], kind="stable")
    wanted = points[order, 1]
    # Every label as high as its point, or as the label above it allows.
    steps = line * np.arange(len(points))
    places = np.minimum.accumulate(wanted + steps) - steps
    places += np.mean(wanted - places)
    places += max(frame[1] + line / 2 - places[-1], 0)
    places -= max(places[0] - frame[3] + line / 2, 0)
    middle = np.empty(len(points))
    middle[order] = places
    return np.stack(
        [left, middle - line / 2, left + widths, middle + line / 2], axis=-1
    )


def _collision(
    columns: Sequence[np.ndarray], points: Sequence[np.ndarray]
) -> tuple[int, int] | None:
    """Two crowds of which one's labels cover the other's labels or points."""
    markers = [np.concatenate([spots - 5, spots + 5], axis=-1) for spots in points]
    for first in range(len(columns)):
        for second in range(first + 1, len(columns)):
            if (
                _meet(columns[first], columns[second])
                or _meet(columns[first], markers[second])
                or _meet(markers[first], columns[second])
            ):
                return first, second
    return None


def _meet(boxes: np.ndarray, others: np.ndarray) -> bool:
    """Whether any of some boxes, ``[K, 4]``, overlaps any of the others, ``[L, 4]``."""
    boxes, others = boxes[:, None], others[None]
    together = (boxes[..., :2] < others[..., 2:]) & (others[..., :2] < boxes[..., 2:])
    return bool(np.any(np.all(together, axis=-1)))
