"""The report's figures, as SVG that belongs inside a page.

Colours become the page's CSS variables, so that one figure serves light, dark and
print; text stays text, in the page's fonts. Matplotlib is imported when a figure is
drawn, never before, and its global state is left alone.
"""

import contextlib
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LossAxis", "Point", "loss_axis", "losses", "per_class", "trade_off"]

# What matplotlib draws with, and the variable of the page's style that stands for it.
_INK, _MUTED, _LINE, _SHADE = "#101112", "#707172", "#d0d1d2", "#f0f1f2"
_FIRST, _SECOND = "#d55e00", "#0072b2"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _SHADE: "var(--shade)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}
_BINS_PER_DECADE = 4
_LONGEST_LABEL = 28


class Point(NamedTuple):
    """A method in the trade-off: ``(mean, sd)`` on both axes.

    Attributes:
        label: its name.
        x: forget accuracy.
        y: retain accuracy.
        is_reference: whether others are read against it.
    """

    label: str
    x: tuple[float, float]
    y: tuple[float, float]
    is_reference: bool = False


class LossAxis(NamedTuple):
    """One logarithmic axis for every histogram of losses, in powers of ten.

    Attributes:
        low: exponent below which losses are counted in one bar.
        high: exponent from which losses are counted in one bar.
    """

    low: int
    high: int


def trade_off(
    points: Sequence[Point], *, id: str, description: str, x_label: str, y_label: str
) -> str:
    """Forget against retain accuracy, mean and spread, every point labelled.

    Args:
        points: at least one. Dashed lines go through the one called ``retrain``.
        id: unique in the page.
        description: for who cannot see the figure.
        x_label: below the axis.
        y_label: beside the axis.
    """
    with _canvas(id, width=4.3, height=3.5, left=0.55, bottom=0.45) as (figure, axes):
        for point in points:
            if point.label == "retrain":
                axes.axvline(point.x[0], color=_MUTED, linewidth=0.8, dashes=(4, 3))
                axes.axhline(point.y[0], color=_MUTED, linewidth=0.8, dashes=(4, 3))
        for point in points:
            colour = _INK if point.is_reference else _SECOND
            axes.errorbar(
                point.x[0],
                point.y[0],
                xerr=point.x[1],
                yerr=point.y[1],
                color=colour,
                marker="D" if point.is_reference else "o",
                markerfacecolor="none" if point.is_reference else colour,
                markersize=6,
                elinewidth=1,
                capsize=2.5,
            )
        axes.grid(color=_LINE, linewidth=0.5)
        axes.margins(0.09)
        axes.set_xlim(left=min(axes.get_xlim()[0], -0.04))
        _widen(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _label(figure, axes, points)
        return _svg(figure, id, description)


def per_class(
    before: np.ndarray | None,
    after: np.ndarray,
    *,
    forgotten: Sequence[int],
    id: str,
    description: str,
    title: str,
) -> str:
    """Accuracy class by class before (hollow bars) and after (filled bars).

    Args:
        before: of the original, fractions, ``[seeds, C]``, or None.
        after: of the method, fractions, ``[seeds, C]``.
        forgotten: the classes to be shaded.
        id: unique in the page.
        description: for who cannot see the figure.
        title: above the bars.
    """
    with _canvas(id, width=3.1, height=1.75) as (figure, axes):
        classes = np.arange(after.shape[1])
        for label in forgotten:
            axes.axvspan(label - 0.5, label + 0.5, color=_SHADE, linewidth=0)
        pairs = [(after, 0.0, 0.7, _SECOND, _SECOND)]
        if before is not None:
            pairs = [
                (before, -0.21, 0.36, "none", _MUTED),
                (after, 0.21, 0.36, _SECOND, _SECOND),
            ]
        for values, shift, width, face, edge in pairs:
            axes.bar(
                classes + shift,
                values.mean(axis=0),
                width,
                yerr=values.std(axis=0, ddof=1) if len(values) > 1 else None,
                facecolor=face,
                edgecolor=edge,
                linewidth=0.8,
                error_kw={"ecolor": _INK, "elinewidth": 0.7},
            )
        step = 1 if len(classes) <= 20 else 10
        axes.set_xticks(classes[::step], [str(label) for label in classes[::step]])
        for tick, label in zip(axes.get_xticklabels(), classes[::step], strict=True):
            tick.set_fontweight("bold" if label in forgotten else "normal")
        axes.set_xlim(-0.6, len(classes) - 0.4)
        axes.set_ylim(0, 1.05)
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_title(_short(title))
        return _svg(figure, id, description)


def loss_axis(losses: Sequence[np.ndarray]) -> LossAxis:
    """Whole powers of ten around the bulk of all losses, in ``[1e-6, 100]``.

    A masked class has losses of 10,000 and more, a sure answer one of exactly zero:
    an axis that reached them would show nothing else.

    Args:
        losses: arrays, ``[N]`` each.
    """
    pooled = np.concatenate([np.ravel(values) for values in losses])
    low, high = np.quantile(np.clip(pooled, 1e-6, 100), (0.01, 0.99))
    return LossAxis(
        min(int(np.floor(np.log10(low))), -1), max(int(np.ceil(np.log10(high))), 0)
    )


def losses(
    forget: np.ndarray,
    test: np.ndarray,
    axis: LossAxis,
    *,
    id: str,
    description: str,
    title: str,
) -> str:
    """Histograms of losses: forgotten training rows (filled) and test rows (outline).

    Args:
        forget: in nats, ``[F]``.
        test: in nats, ``[T]``.
        axis: shared with the figures beside this one.
        id: unique in the page.
        description: for who cannot see the figure.
        title: above the bars.
    """
    with _canvas(id, width=3.1, height=1.6, left=0.14) as (figure, axes):
        width = 1 / _BINS_PER_DECADE
        num_bins = (axis.high - axis.low) * _BINS_PER_DECADE
        # One bar more at either end, a little apart, holds what lies beyond.
        edges = np.concatenate(
            [
                [axis.low - 2 * width, axis.low - width],
                axis.low + width * np.arange(num_bins + 1),
                [axis.high + width, axis.high + 2 * width],
            ]
        )
        for values, style in (
            (forget, {"facecolor": _FIRST, "alpha": 0.55, "fill": True}),
            (test, {"edgecolor": _SECOND, "linewidth": 1.5, "fill": False}),
        ):
            share = _shares(values, axis, num_bins)
            axes.stairs(share, edges, **style)
        axes.set_xlim(edges[0] - width, edges[-1] + width)
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
        exponents = list(range(axis.low + 1, axis.high, 2 if num_bins > 16 else 1))
        axes.set_xticks(
            [edges[0] + width / 2, *exponents, edges[-1] - width / 2],
            [
                f"< {_power(axis.low)}",
                *(_power(exponent) for exponent in exponents),
                f"≥ {_power(axis.high)}",
            ],
        )
        axes.set_title(_short(title))
        return _svg(figure, id, description)


def _shares(values: np.ndarray, axis: LossAxis, num_bins: int) -> np.ndarray:
    """The share of losses in every bin; empty gaps beside the two outer bars."""
    with np.errstate(divide="ignore"):
        places = (np.log10(values) - axis.low) * _BINS_PER_DECADE
    bins = np.clip(np.floor(places), -1, num_bins).astype(int) + 1
    counts = np.bincount(bins, minlength=num_bins + 2) / max(len(values), 1)
    return np.concatenate([counts[:1], [0], counts[1:-1], [0], counts[-1:]])


def _power(exponent: int) -> str:
    """A power of ten as people write it."""
    if -2 <= exponent <= 2:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _widen(axes: Any, least: float = 0.04) -> None:
    """Keeps noise from being blown up to the full height of the figure."""
    low, high = axes.get_ylim()
    missing = max(least - (high - low), 0) / 2
    axes.set_ylim(low - missing, high + missing)


def _label(figure: Any, axes: Any, points: Sequence[Point]) -> None:
    """Writes every label where it covers least, with a line to its point if far off.

    Greedy, over rings of places around each point, in the order of the points.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = axes.get_window_extent(renderer).extents
    centres = axes.transData.transform([(p.x[0], p.y[0]) for p in points])
    # Boxes as (left, bottom, right, top): never to be covered, and better not.
    taken = [np.r_[centre - 5, centre + 5] for centre in centres]
    whiskers = [
        np.r_[axes.transData.transform(low), axes.transData.transform(high)]
        for p in points
        for low, high in (
            ((p.x[0] - p.x[1], p.y[0]), (p.x[0] + p.x[1], p.y[0])),
            ((p.x[0], p.y[0] - p.y[1]), (p.x[0], p.y[0] + p.y[1])),
        )
    ]
    for point, centre in zip(points, centres, strict=True):
        text = axes.text(
            0,
            0,
            _short(point.label),
            transform=None,
            ha="center",
            va="center_baseline",
            color=_INK,
            style="italic" if point.is_reference else "normal",
        )
        size = np.array(text.get_window_extent(renderer).size)
        best = min(
            _places(centre, size),
            key=lambda place: _cost(place, centre, size, frame, taken, whiskers),
        )
        text.set_position(best[1])
        box = np.r_[best[1] - size / 2, best[1] + size / 2]
        taken.append(box)
        if best[0] > 10:
            path = _leader(centre, box)
            taken.extend(np.r_[spot, spot] for spot in path[2:])
            axes.plot(
                *path[[0, -1]].T, color=_MUTED, linewidth=0.6, transform=None, zorder=1
            )


def _places(
    centre: np.ndarray, size: np.ndarray
) -> Iterator[tuple[float, np.ndarray]]:
    """Distances from the point, and centres of the label there."""
    for distance in (7, 13, 20, 28, 38, 50, 64, 80, 100, 125):
        for angle in np.arange(24) * np.pi / 12:
            direction = np.array([np.cos(angle), np.sin(angle)])
            yield distance, centre + direction * (distance + size / 2)


def _cost(
    place: tuple[float, np.ndarray],
    point: np.ndarray,
    size: np.ndarray,
    frame: np.ndarray,
    taken: Sequence[np.ndarray],
    whiskers: Sequence[np.ndarray],
) -> float:
    """How bad a label's place is: far off, out of the frame, or over something."""
    distance, centre = place
    box = np.r_[centre - size / 2, centre + size / 2]
    outside = np.any(box[:2] < frame[:2] + 2) or np.any(box[2:] > frame[2:] - 2)
    covered = sum(_meet(box, other) for other in taken)
    crossed = sum(
        _meet(np.r_[spot, spot], other)
        for spot in _leader(point, box)[2:-1]
        for other in taken
    )
    return (
        distance
        + 2000 * outside
        + 500 * covered
        + 100 * (crossed > 0 and distance > 10)
        + 15 * sum(_meet(box, other) for other in whiskers)
    )


def _meet(box: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.all(box[:2] < other[2:] + 1) and np.all(other[:2] < box[2:] + 1))


def _leader(point: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Spots on the way from a point to the nearest edge of a box, ``[9, 2]``."""
    nearest = np.clip(point, box[:2], box[2:])
    return point + np.linspace(0, 1, 9)[:, None] * (nearest - point)


def _short(label: str) -> str:
    label = " ".join(label.split())
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


@contextlib.contextmanager
def _canvas(
    id: str, *, width: float, height: float, left: float = 0.3, bottom: float = 0.26
) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, all lengths in inches, in the report's plain style."""
    import matplotlib.figure
    import matplotlib.style

    style: dict[str, Any] = {
        "figure.dpi": 72,  # One unit of the SVG is one unit of layout.
        "svg.fonttype": "none",
        "svg.hashsalt": id,
        "text.parse_math": False,  # A method's name is no formula.
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        "axes.unicode_minus": False,
        "hatch.linewidth": 0.6,
    }
    inks = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color")
    style |= dict.fromkeys((*inks, "ytick.color"), _INK)
    # From the defaults, so that nobody's matplotlibrc changes the page.
    with matplotlib.style.context(["default", style]):
        figure = matplotlib.figure.Figure(figsize=(width, height))
        figure.patch.set_visible(False)
        box = (left, bottom, width - left - 0.1, height - bottom - 0.28)
        axes = figure.add_axes(
            (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        )
        axes.patch.set_visible(False)
        yield figure, axes


def _svg(figure: Any, id: str, description: str) -> str:
    """The figure as an ``svg`` element: no prolog, no metadata, ids of its own."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    # Its style would hold for the whole page, which has the same rule for figures.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    view = re.search(r'viewBox="([^"]*)"', text[: text.index(">")])
    assert view is not None  # Matplotlib always writes one.
    label = html.escape(description)
    head = f'<svg role="img" aria-label="{label}" viewBox="{view[1]}">'
    text = head + text[text.index(">") + 1 :]

    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{id}-{m[1]}"' if m[1] in used else "", text
    )
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{id}-", text)
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 system-ui, sans-serif", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return re.sub(r"\s*\n\s*", "\n", text).strip()
