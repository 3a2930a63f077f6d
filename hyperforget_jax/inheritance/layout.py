"""Where a graph's nodes and names go, and how large they can be drawn."""

import math
from typing import NamedTuple

from hyperforget_jax.inheritance.graph import Graph

__all__ = ["POINT", "Layout", "arrange"]

POINT = 1 / 72
_LETTER = 0.6  # A letter's width, as a share of the font size.


class Layout(NamedTuple):
    """Where everything goes, in inches but for the places and the font.

    Attributes:
        places: of nodes by name, in cells.
        cell: width and height of a node's cell.
        margin: around a panel's cells.
        columns: cells across a panel.
        lines: cells down a panel.
        is_beside: whether the panels are side by side, not one above the other.
        diameter: of a node.
        name: where a node's name goes: ``"below"``, ``"slanted"``, ``"beside"``, or
            ``""`` where there is no room for it.
        font: of names, in points.
    """

    places: dict[str, tuple[float, float]]
    cell: tuple[float, float]
    margin: float
    columns: int
    lines: int
    is_beside: bool
    diameter: float
    name: str
    font: float


def arrange(graph: Graph) -> Layout:
    """Lays out a graph, in cells as large as the number of nodes lets them be.

    Args:
        graph: trained or not.
    """
    import networkx

    levels = graph.levels()
    columns, lines = len(levels), max(map(len, levels))
    # The layout's first line is the lowest.
    layers = {column: level[::-1] for column, level in enumerate(levels)}
    scale = max(columns - 1, lines - 1, 1) / 2
    places = networkx.multipartite_layout(
        graph.to_networkx(), subset_key=layers, scale=scale
    )
    is_beside = columns <= 12
    width = min(7 / columns, 1.5) if is_beside else max(14 / columns, 0.5)
    height = min(max(8 / lines, 0.26), 1.0)
    diameter = min(0.65 * width, 0.65 * height, 0.42)
    longest = max(map(len, graph.names)) * _LETTER * POINT
    # The largest font at which the longest name fits.
    room = height - diameter - 0.08
    fonts = {
        "below": width / longest if room >= 8 * POINT else 0.0,
        "slanted": room / longest / math.sin(math.pi / 4),
        "beside": (width - diameter - 0.1) / longest if height >= 7 * POINT else 0.0,
    }
    # The first spot that can be read well, or else the best.
    spot = max(fonts, key=lambda spot: min(fonts[spot], 6.0))
    font = min(fonts[spot], 8.0)
    # A slanted name reaches as far to the left as it reaches down.
    margin = max(room + 0.1 - width / 2, 0.25) if spot == "slanted" else 0.25
    return Layout(
        {name: (float(x), float(y)) for name, (x, y) in places.items()},
        (width, height),
        margin,
        columns,
        lines,
        is_beside,
        diameter,
        spot if font >= 4.5 else "",
        font,
    )
