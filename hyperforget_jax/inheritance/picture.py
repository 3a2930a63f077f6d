"""A graph before and after a request, drawn: who forgot, and who inherits from whom.

Matplotlib is imported when a picture is drawn, never before, and its global state is
left alone: networkx draws with pyplot, and so gives only the places of the nodes here.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hyperforget_jax import atomic_write
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.layout import POINT, Layout, arrange
from hyperforget_jax.inheritance.nodes import KINDS
from hyperforget_jax.inheritance.validation import check_names

__all__ = ["draw"]

_INK, _LINE, _RING = "#101112", "#707172", "#d55e00"
_STYLES = dict(zip(KINDS, ("--", "-", "-.", ":"), strict=True))
# Lengths in inches.
_HEADING, _FOOT, _BAR = 0.32, 0.5, 0.9


def draw(
    graph: Graph,
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    roots: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Any:
    """Draws the graph twice, coloured by forget accuracy before and after a request.

    Generations go from left to right. The panels are side by side where both fit, and
    one above the other for long chains. Sizes go by the number of nodes; names give
    way where there is no room for them, numbers never.

    Args:
        graph: trained or not.
        before: forget accuracy in ``[0, 1]`` of every node, by name.
        after: the same, when the request was answered.
        roots: nodes to be ringed; by default those of the audit's last record.
        path: where to write the picture, ``.png`` or whatever matplotlib knows.
        title: above both panels.

    Returns:
        A ``matplotlib.figure.Figure``, which pyplot does not know of.

    Raises:
        TypeError: a string for ``roots``.
        ValueError: a node without accuracy, an accuracy outside ``[0, 1]``, or an
            unknown root.
    """
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import matplotlib.style

    for name, accuracies in (("before", before), ("after", after)):
        _check_accuracies(name, accuracies, graph.names)
    if roots is None:
        roots = graph.audit[-1].roots if graph.audit else ()
    roots = check_names("roots", roots, graph.names)
    layout = arrange(graph)
    panel = [
        cells * size + 2 * layout.margin
        for cells, size in zip((layout.columns, layout.lines), layout.cell, strict=True)
    ]
    across, down = (2, 1) if layout.is_beside else (1, 2)
    head = 0.35 if title else 0.05
    width = across * panel[0] + _BAR
    height = down * (panel[1] + _HEADING) + head + _FOOT
    # Nobody's matplotlibrc changes the picture, and a model's name is no formula.
    with matplotlib.style.context(["default", {"text.parse_math": False}]):
        figure = matplotlib.figure.Figure(figsize=(width, height))
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
        colours: Any = None  # Of whichever panel is drawn last.
        for place, (heading, accuracies) in enumerate(
            [("before unlearning", before), ("after unlearning", after)]
        ):
            column, line = (place, 0) if layout.is_beside else (0, 1 - place)
            left, bottom = column * panel[0], _FOOT + line * (panel[1] + _HEADING)
            axes = figure.add_axes(
                (
                    left / width,
                    bottom / height,
                    panel[0] / width,
                    panel[1] / height,
                )
            )
            colours = _panel(axes, graph, layout, accuracies, roots)
            axes.set_title(heading, fontsize=10, fontweight="bold", color=_INK)
        bar_height = min(height - _FOOT - head - _HEADING, 3.0)
        bar = figure.add_axes(
            (
                (width - _BAR + 0.1) / width,
                (_FOOT + (height - _FOOT - head - _HEADING - bar_height) / 2) / height,
                0.14 / width,
                bar_height / height,
            )
        )
        figure.colorbar(colours, cax=bar).set_label("forget accuracy", fontsize=8)
        bar.tick_params(labelsize=7)
        _legend(figure, graph, bool(roots))
        if title:
            figure.suptitle(title, fontsize=11, y=1 - 0.08 / height, va="top")
        if path is not None:
            kind = pathlib.Path(path).suffix.removeprefix(".") or "png"
            with atomic_write.replace_file(path, "wb") as file:
                figure.savefig(file, format=kind, dpi=150)
    return figure


def _check_accuracies(
    argument: str, accuracies: Mapping[str, float], names: Sequence[str]
) -> None:
    missing = [name for name in names if name not in accuracies]
    if missing:
        raise ValueError(
            f"{argument} has no forget accuracy of {missing[:10]}: every node needs "
            "one."
        )
    for name in names:
        # Written so that NaN fails.
        if not 0 <= accuracies[name] <= 1:
            raise ValueError(
                f"{argument}[{name!r}] is {accuracies[name]}: a forget accuracy lies "
                "in [0, 1]."
            )


def _panel(
    axes: Any,
    graph: Graph,
    layout: Layout,
    accuracies: Mapping[str, float],
    roots: Sequence[str],
) -> Any:
    """Draws one panel; returns what the colour bar is made of."""
    width, height = layout.cell
    half = (
        layout.columns / 2 + layout.margin / width,
        layout.lines / 2 + layout.margin / height,
    )
    axes.set_xlim(-half[0], half[0])
    axes.set_ylim(-half[1], half[1])
    axes.set_axis_off()
    _edges(axes, graph, layout)
    x, y = zip(*(layout.places[name] for name in graph.names), strict=True)
    size = (layout.diameter / POINT) ** 2
    values = [float(accuracies[name]) for name in graph.names]
    nodes = axes.scatter(
        x,
        y,
        s=size,
        c=values,
        cmap="cividis",
        vmin=0,
        vmax=1,
        edgecolors=_INK,
        linewidths=0.6,
        zorder=3,
    )
    for name in roots:
        axes.scatter(
            *layout.places[name],
            s=size * 1.35,
            facecolors="none",
            edgecolors=_RING,
            linewidths=2,
            zorder=4,
        )
    # ".93" where "0.93" would have to be smaller than can be read.
    is_small = layout.diameter < 0.3
    font = min(layout.diameter / POINT / (1.8 if is_small else 2.4), 9)
    for name, value in zip(graph.names, values, strict=True):
        number = f"{value:.2f}"
        if is_small:
            number = number.removeprefix("0") if value < 0.995 else "1.0"
        axes.annotate(
            number,
            layout.places[name],
            fontsize=font,
            # Cividis turns from dark to light in its middle.
            color="white" if value < 0.5 else "black",
            ha="center",
            va="center",
            zorder=5,
        )
    _names(axes, layout)
    return nodes


def _edges(axes: Any, graph: Graph, layout: Layout) -> None:
    import matplotlib.patches

    for edge in graph.edges:
        start, end = layout.places[edge.parent], layout.places[edge.child]
        across = (end[0] - start[0]) * layout.cell[0]
        length = math.hypot(across, (end[1] - start[1]) * layout.cell[1])
        # What skips a generation is bent, or it would hide behind those it skips.
        is_bent = end[0] - start[0] > 1.5
        bend = -min(0.3, 0.9 * layout.cell[1] / length) if is_bent else 0.0
        axes.add_patch(
            matplotlib.patches.FancyArrowPatch(
                start,
                end,
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=3 + 14 * layout.diameter,
                shrinkA=layout.diameter / 2 / POINT,
                shrinkB=layout.diameter / 2 / POINT + 1.5,
                linestyle=_STYLES[edge.kind],
                linewidth=0.6 + 0.7 * edge.weight,
                color=_LINE,
                zorder=2,
            )
        )


def _names(axes: Any, layout: Layout) -> None:
    import matplotlib.patheffects

    if not layout.name:
        return
    offset = layout.diameter / 2 / POINT + 2.5
    styles: dict[str, dict[str, Any]] = {
        "below": {"xytext": (0, -offset), "ha": "center", "va": "top"},
        "slanted": {
            "xytext": (2, -offset),
            "ha": "right",
            "va": "top",
            "rotation": 45,
            "rotation_mode": "anchor",
        },
        "beside": {"xytext": (offset, 0), "ha": "left", "va": "center"},
    }
    for name, place in layout.places.items():
        text = axes.annotate(
            name,
            place,
            textcoords="offset points",
            fontsize=layout.font,
            color=_INK,
            zorder=6,
            **styles[layout.name],
        )
        # Edges run below names.
        halo = matplotlib.patheffects.withStroke(linewidth=2, foreground="white")
        text.set_path_effects([halo])


def _legend(figure: Any, graph: Graph, has_roots: bool) -> None:
    from matplotlib.lines import Line2D

    used = {edge.kind for edge in graph.edges}
    entries: list[dict[str, Any]] = [
        {"label": kind, "color": _LINE, "linestyle": style, "linewidth": 1.3}
        for kind, style in _STYLES.items()
        if kind in used
    ]
    if has_roots:
        ring = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": _RING}
        ring |= {"linestyle": "", "markersize": 9}
        entries.append({"label": "asked to forget", **ring})
    handles = [Line2D([], [], **entry) for entry in entries]
    if handles:
        figure.legend(
            handles=handles,
            loc="lower center",
            ncols=len(handles),
            fontsize=8,
            frameon=False,
            handlelength=3,
        )
