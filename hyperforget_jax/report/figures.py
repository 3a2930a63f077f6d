"""The report's figures, as SVG that belongs inside a page.

Colours become the page's CSS variables, so that one figure serves light, dark and
print; text stays text, in the page's fonts. Matplotlib is imported when a figure is
drawn, never before, and its global state is left alone.
"""

import contextlib
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from hyperforget_jax.report import labels

__all__ = ["LossAxis", "Point", "loss_axis", "losses", "per_class", "trade_off"]

# What matplotlib draws with, and the variable of the page's style that stands for it.
_PAPER, _INK, _MUTED = "#fafbfc", "#101112", "#707172"
_LINE, _SHADE = "#d0d1d2", "#f0f1f2"
_FIRST, _SECOND = "#d55e00", "#0072b2"
_VARIABLES = {
    _PAPER: "var(--paper)",
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _SHADE: "var(--shade)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}
_BINS_PER_DECADE = 4


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
    sides = {"left": 0.66, "bottom": 0.45, "right": 0.85}
    with _canvas(id, width=4.4, height=3.4, **sides) as (figure, axes):
        for point in points:
            # Open and larger, so that a point on the very spot is seen through it.
            is_reference = point.is_reference
            colour = _INK if is_reference else _SECOND
            if point.label == "retrain":
                axes.axvline(point.x[0], color=_MUTED, linewidth=0.8, dashes=(4, 3))
                axes.axhline(point.y[0], color=_MUTED, linewidth=0.8, dashes=(4, 3))
            axes.errorbar(
                point.x[0],
                point.y[0],
                xerr=point.x[1],
                yerr=point.y[1],
                color=colour,
                marker="D" if is_reference else "o",
                markerfacecolor="none" if is_reference else colour,
                markeredgecolor=colour if is_reference else _PAPER,
                markeredgewidth=1.2 if is_reference else 0.6,
                markersize=8 if is_reference else 6.5,
                elinewidth=1,
                capsize=2.5,
                zorder=4 if is_reference else 3,
            )
        axes.grid(color=_LINE, linewidth=0.5)
        axes.margins(0.09)
        left, right = axes.get_xlim()
        axes.set_xlim(min(left, -0.04), max(right, 0.2))
        _widen(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        texts = [
            axes.text(
                0,
                0,
                labels.short(point.label),
                transform=None,
                ha="left",
                va="center_baseline",
                color=_INK,
                style="italic" if point.is_reference else "normal",
            )
            for point in points
        ]
        spots = [(point.x[0], point.y[0]) for point in points]
        labels.place(figure, axes, texts, spots, line_colour=_MUTED)
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
        is_crowded = len(classes) > 30  # Then edges and spreads would hide the bars.
        for values, shift, width, face, edge in pairs:
            has_spread = len(values) > 1 and not is_crowded
            axes.bar(
                classes + shift,
                values.mean(axis=0),
                width,
                yerr=values.std(axis=0, ddof=1) if has_spread else None,
                facecolor=face,
                edgecolor=edge,
                linewidth=0.25 if is_crowded else 0.8,
                error_kw={"ecolor": _INK, "elinewidth": 0.7},
            )
        step = 1 if len(classes) <= 20 else 10
        axes.set_xticks(classes[::step], [str(label) for label in classes[::step]])
        for tick, label in zip(axes.get_xticklabels(), classes[::step], strict=True):
            tick.set_fontweight("bold" if label in forgotten else "normal")
        axes.set_xlim(-0.6, len(classes) - 0.4)
        axes.set_ylim(0, 1.05)
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_title(labels.short(title))
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
        axes.set_title(labels.short(title))
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


@contextlib.contextmanager
def _canvas(
    id: str,
    *,
    width: float,
    height: float,
    left: float = 0.3,
    bottom: float = 0.26,
    right: float = 0.1,
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
    }
    inks = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color")
    style |= dict.fromkeys((*inks, "ytick.color"), _INK)
    # From the defaults, so that nobody's matplotlibrc changes the page.
    with matplotlib.style.context(["default", style]):
        figure = matplotlib.figure.Figure(figsize=(width, height))
        figure.patch.set_visible(False)
        box = (left, bottom, width - left - right, height - bottom - 0.28)
        axes = figure.add_axes(
            (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        )
        axes.patch.set_visible(False)
        yield figure, axes


def _svg(figure: Any, id: str, description: str) -> str:
    """The figure as an ``svg`` element: no prolog, no metadata, ids of its own."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = ElementTree.fromstring(file.getvalue())
    for element in list(drawing.iter()):
        for child in list(element):
            # Its style would hold for the page, which has the same rule for figures.
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                element.remove(child)
    used = {
        name
        for element in drawing.iter()
        for value in element.attrib.values()
        for name in re.findall(r"^#(.+)|url\(#(.+?)\)", value)
        for name in name
    }
    for element in drawing.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = "\n"
        attributes = {
            name.rpartition("}")[2]: _in_page(value, id)
            for name, value in element.attrib.items()
        }
        # Most ids name a part that nothing refers to, the same in every figure.
        if element.get("id") in used:
            attributes["id"] = f"{id}-{element.get('id')}"
        else:
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib.update(attributes)
    view = drawing.attrib["viewBox"]
    drawing.attrib.clear()
    drawing.attrib.update(
        {"role": "img", "aria-label": labels.printable(description), "viewBox": view}
    )
    return ElementTree.tostring(drawing, encoding="unicode").strip()


def _in_page(value: str, id: str) -> str:
    """An attribute's value with the page's ids, colours and fonts."""
    value = re.sub(r"^#|(?<=url\()#", f"#{id}-", value)
    value = re.sub(r"\s*font-family:[^;]*;?", "", value)
    for colour, variable in _VARIABLES.items():
        value = value.replace(colour, variable)
    return " ".join(value.split())
