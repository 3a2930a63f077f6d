"""Draw a graph before and after a request: who forgot, and who inherits from whom.

Matplotlib is imported when a picture is drawn, never before, and its global state is
left alone: networkx draws with pyplot, and so gives only the places of the nodes here.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hyperforget_jax import atomic_write
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.nodes import KINDS

__all__ = ["draw"]

_INK, _LINE, _RING = "#101112", "#707172", "#d55e00"
_STYLES: dict[str, Any] = dict(zip(KINDS, ("--", "-", "-.", ":"), strict=True))


def draw(
    graph: Graph,
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    roots: Sequence[str] = (),
    path: str | os.PathLike[str] | None = None,
    title: str = "",
) -> Any:
    """Draw a graph twice, coloured by forget accuracy before and after a request.

    Args:
        graph: who inherits from whom; generations go from left to right.
        before: forget accuracy in ``[0, 1]`` of every node, by name.
        after: the same, when the request was answered.
        roots: nodes to be ringed: those that were asked.
        path: where to write the picture, ``.png`` or whatever matplotlib knows.
        title: above both panels.

    Returns:
        A ``matplotlib.figure.Figure``, which pyplot does not know of.

    Raises:
        ValueError: a node without accuracy, an accuracy outside ``[0, 1]``, or an
            unknown root.
    """
    import matplotlib.figure
    import matplotlib.style
    import networkx

    graph.check_names("roots", roots)
    columns, lines = len(graph.levels), max(map(len, graph.levels))
    # The layout's first line is the lowest.
    layers = {column: level[::-1] for column, level in enumerate(graph.levels)}
    places = networkx.multipartite_layout(graph.to_networkx(), subset_key=layers)
    width = min(max(1.2 * columns, 3), 14)
    height = min(max(0.9 * lines, 1.5), 9) + 0.6
    # Side by side where both fit, and one above the other for long chains.
    shape = (1, 2) if columns <= 8 else (2, 1)
    size = (width * shape[1] + 1, height * shape[0] + 0.7)
    # In points, by what a cell of the layout leaves room for.
    room = 72 * min(width / columns, (height - 0.6) / lines)
    diameter = min(0.62 * room, 30)
    # Nobody's matplotlibrc changes the picture, and a model's name is no formula.
    with matplotlib.style.context(["default", {"text.parse_math": False}]):
        figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
        panels = figure.subplots(*shape, squeeze=False).ravel()
        nodes: Any = None
        for axes, when, given in zip(
            panels, ("before", "after"), (before, after), strict=True
        ):
            values = _values(when, given, graph.names)
            axes.set_title(f"{when} unlearning", fontsize=10, fontweight="bold")
            nodes = _panel(axes, graph, places, values, roots, diameter)
        bar = figure.colorbar(nodes, ax=panels, shrink=0.7)
        bar.set_label("forget accuracy", fontsize=8)
        _legend(figure, graph, bool(roots))
        figure.suptitle(title, fontsize=11)
        if path is not None:
            kind = pathlib.Path(path).suffix.removeprefix(".") or "png"
            with atomic_write.replace_file(path, "wb") as file:
                figure.savefig(file, format=kind, dpi=150)
    return figure


def _values(argument: str, given: Mapping[str, float], names) -> dict[str, float]:
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"{argument} has no forget accuracy of {missing[:10]}.")
    for name in names:
        # Written so that NaN fails.
        if not 0 <= given[name] <= 1:
            raise ValueError(
                f"{argument}[{name!r}] is {given[name]}: a forget accuracy lies in "
                "[0, 1]."
            )
    return {name: float(given[name]) for name in names}


def _panel(axes, graph: Graph, places, values, roots, diameter: float) -> Any:
    """Draw one panel; return what the colour bar is made of."""
    axes.set_axis_off()
    axes.margins(0.12, 0.25)
    for edge in graph.edges:
        arrow = {
            "arrowstyle": "-|>",
            "shrinkA": diameter / 2,
            "shrinkB": diameter / 2 + 1,
            "linestyle": _STYLES[edge.kind],
            "linewidth": 0.6 + 0.7 * edge.weight,
            "color": _LINE,
            # Bent a little, or what skips a generation would hide behind the others.
            "connectionstyle": "arc3,rad=-0.12",
        }
        axes.annotate("", places[edge.child], places[edge.parent], arrowprops=arrow)
    x, y = zip(*(places[name] for name in graph.names), strict=True)
    look = {"cmap": "cividis", "vmin": 0, "vmax": 1, "edgecolors": _INK, "zorder": 3}
    colours = list(values.values())
    nodes = axes.scatter(x, y, s=diameter**2, c=colours, linewidths=0.6, **look)
    if roots:
        x, y = zip(*(places[name] for name in roots), strict=True)
        ring = {"facecolors": "none", "edgecolors": _RING, "linewidths": 2}
        axes.scatter(x, y, s=1.4 * diameter**2, zorder=4, **ring)
    below = {"textcoords": "offset points", "va": "top", "color": _INK}
    below |= {"xytext": (0, -diameter / 2 - 6), "ha": "center"}
    if len(graph.levels) > 12:  # Names of long chains would run into each other.
        below |= {"ha": "right", "rotation": 40}
    for name, value in values.items():
        inside = {"ha": "center", "va": "center", "zorder": 5}
        # Cividis turns from dark to light in its middle.
        inside["color"] = "white" if value < 0.5 else "black"
        number = min(diameter / 2.6, 9)
        axes.annotate(f"{value:.2f}", places[name], fontsize=number, **inside)
        size = min(max(diameter / 2, 4.5), 8)
        axes.annotate(name, places[name], fontsize=size, **below)
    return nodes


def _legend(figure: Any, graph: Graph, has_roots: bool) -> None:
    from matplotlib.lines import Line2D

    used = {edge.kind for edge in graph.edges}
    handles = [
        Line2D([], [], label=kind, color=_LINE, linestyle=style)
        for kind, style in _STYLES.items()
        if kind in used
    ]
    if has_roots:
        ring = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": _RING}
        handles.append(Line2D([], [], label="asked to forget", linestyle="", **ring))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8)
