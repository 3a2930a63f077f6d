"""The report's figures, by matplotlib, as SVG that belongs inside a page.

Colours become the page's CSS variables, so that one figure serves light, dark and
print; text stays text, in the page's fonts. Matplotlib is imported when a figure is
drawn, never before, and its global state is left alone.
"""

import contextlib
import html
import io
import re
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "FIRST",
    "INK",
    "LINE",
    "MARKERS",
    "MUTED",
    "SECOND",
    "Point",
    "canvas",
    "draw_points",
    "losses",
    "per_class",
    "printable",
    "svg",
    "trade_off",
    "trade_off_size",
]

# What matplotlib draws with, and the variable of the page's style that stands for it.
INK, MUTED, LINE, SHADE = "#101112", "#707172", "#d0d1d2", "#f0f1f2"
FIRST, SECOND = "#d55e00", "#0072b2"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    SHADE: "shade",
    FIRST: "first",
    SECOND: "second",
}
MARKERS = "osv^Pp<>*XhdH8"
_LOSS_BINS = np.arange(-6, 2.01, 0.25)  # Powers of ten, in nats.


class Point(NamedTuple):
    """A method in the trade-off.

    Attributes:
        label: its name.
        x: forget accuracy, ``(mean, sd)``.
        y: retain accuracy, ``(mean, sd)``.
        number: which of the methods it is, for its marker; None for a reference.
    """

    label: str
    x: tuple[float, float]
    y: tuple[float, float]
    number: int | None = None


def trade_off(
    points: Sequence[Point], *, id: str, description: str, x_label: str, y_label: str
) -> str:
    """Draw forget against retain accuracy, mean and spread, with a legend.

    Every figure's ``id`` is unique in the page, and its ``description`` is for who
    cannot see it.
    """
    with canvas(id, *trade_off_size(points)) as (figure, axes):
        axes.set(xlabel=x_label, ylabel=y_label)
        draw_points(axes, points)
        return svg(figure, description)


def trade_off_size(
    points: Sequence[Point],
) -> tuple[float, float, tuple[float, float, float, float]]:
    """Return a trade-off's width, height and margins, with room for its legend."""
    longest = max(len(printable(point.label)) for point in points)
    right = 0.5 + 0.08 * longest
    return 3.6 + right, max(3.2, 0.21 * len(points) + 0.8), (0.75, 0.45, right, 0.15)


def draw_points(axes: Any, points: Sequence[Point]) -> Any:
    """Draw points, each with a marker of its own; return the legend of their names.

    Dashed lines go through the point called ``retrain``.
    """
    for point in points:
        colour, marker, size = INK, "D", 9.0
        if point.number is not None:
            colour = (SECOND, FIRST)[point.number % 2]
            marker, size = MARKERS[point.number % len(MARKERS)], 6.5
        if point.label == "retrain":
            axes.axvline(point.x[0], color=MUTED, linewidth=0.8, dashes=(4, 3))
            axes.axhline(point.y[0], color=MUTED, linewidth=0.8, dashes=(4, 3))
        (x, x_spread), (y, y_spread) = point.x, point.y
        error = {"color": colour, "elinewidth": 0.8, "capsize": 2.5}
        axes.errorbar(x, y, xerr=x_spread, yerr=y_spread, linestyle="none", **error)
        axes.plot(
            x,
            y,
            linestyle="none",
            label=printable(point.label),
            color=colour,
            marker=marker,
            markersize=size,
            # Open, so that another point on the very spot is seen through it.
            markerfacecolor=MUTED if point.label == "original" else "none",
        )
    axes.grid(color=LINE, linewidth=0.5)
    for axis in ("x", "y"):  # Noise is not blown up to the full size of the figure.
        low, high = getattr(axes, f"get_{axis}lim")()
        missing = max(0.02 - (high - low), 0) / 2
        axes.set(**{f"{axis}lim": (low - missing, high + missing)})
    return axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def per_class(
    before: np.ndarray | None,
    after: np.ndarray,
    *,
    forgotten: Sequence[int],
    id: str,
    description: str,
    title: str,
) -> str:
    """Draw accuracy class by class, ``[seeds, C]``, before (hollow) and after.

    Classes in ``forgotten`` are shaded.
    """
    with canvas(id, 3.1, 1.75, (0.3, 0.26, 0.1, 0.28)) as (figure, axes):
        for label in forgotten:
            axes.axvspan(label - 0.5, label + 0.5, color=SHADE, linewidth=0)
        classes = np.arange(after.shape[1])
        has_room = len(classes) <= 30
        for values, place, face, edge in (
            (before, -0.21, "none", MUTED),
            (after, 0.21, SECOND, SECOND),
        ):
            if values is not None:
                spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
                axes.bar(
                    classes + place,
                    values.mean(axis=0),
                    0.36,
                    yerr=spread if has_room else None,
                    facecolor=face,
                    edgecolor=edge,
                    linewidth=0.8 if has_room else 0.25,
                    error_kw={"ecolor": INK, "elinewidth": 0.7},
                )
        axes.set_xticks(classes[:: 1 if has_room else 10])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set(
            xlim=(-0.6, len(classes) - 0.4), ylim=(0, 1.05), title=printable(title)
        )
        return svg(figure, description)


def losses(
    forget: np.ndarray, test: np.ndarray, *, id: str, description: str, title: str
) -> str:
    """Draw histograms of losses in nats: forgotten rows (filled) and test rows."""
    with canvas(id, 3.1, 1.6, (0.25, 0.26, 0.28, 0.28)) as (figure, axes):
        for values, style in (
            (forget, {"facecolor": FIRST, "alpha": 0.55, "fill": True}),
            (test, {"edgecolor": SECOND, "linewidth": 1.5, "fill": False}),
        ):
            # The outer bars hold what lies beyond: a masked class has losses of 1e9.
            places = np.log10(np.clip(values, 1.01e-6, 99))
            counts, _ = np.histogram(places, _LOSS_BINS)
            axes.stairs(counts / len(values), _LOSS_BINS, **style)
        axes.set(xlim=(-6.2, 2.2), yticks=[], title=printable(title))
        axes.set_ylim(bottom=0)
        axes.set_xticks([-6, -4, -2, 0, 2], ["< 10⁻⁶", "10⁻⁴", "0.01", "1", "> 100"])
        return svg(figure, description)


def printable(text: str, longest: int = 26) -> str:
    """Make a label of a text: on one line, without controls, and cut to length."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Matplotlib leaves labels that begin with an underscore out of legends.
    text = re.sub("^_", "‗", text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


@contextlib.contextmanager
def canvas(
    id: str, width: float, height: float, margins: tuple[float, float, float, float]
) -> Generator[tuple[Any, Any]]:
    """Yield a figure and its axes in the report's plain style, lengths in inches."""
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
        "axes.unicode_minus": False,
    }
    inks = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color")
    style |= dict.fromkeys((*inks, "ytick.color"), INK)
    # From the defaults, so that nobody's matplotlibrc changes the page.
    with matplotlib.style.context(["default", style]):
        figure = matplotlib.figure.Figure(figsize=(width, height))
        figure.patch.set_visible(False)
        left, bottom, right, top = margins
        size = (width - left - right) / width, (height - bottom - top) / height
        axes = figure.add_axes((left / width, bottom / height, *size))
        axes.patch.set_visible(False)
        yield figure, axes


def svg(figure: Any, description: str) -> str:
    """Make an ``svg`` element: no prolog, no metadata, the page's colours and fonts."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    _, size, text = re.split(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', file.getvalue())
    # Its style would hold for the whole page, which has the same rule for figures.
    text = re.sub("<(metadata|style).*?</(metadata|style)>", "", text, flags=re.DOTALL)
    # Most ids name a part that nothing refers to, the same in every figure.
    used = set(re.findall(r'(?:href="|url\()#(\w+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r"\s*font-family:[^;\"]*;?", "", text).replace("xlink:href", "href")
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    label = html.escape(" ".join(description.split()))
    return f'<svg role="img" aria-label="{label}" viewBox="{size}">{text}'
