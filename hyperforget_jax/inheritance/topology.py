"""What networkx knows of a graph: generations, ancestors, cycles, and so ids.

Everything is remembered by the graph's hashable structure. networkx is imported when
it is first asked: the import costs time that only those who inherit should pay.
"""

import dataclasses
import functools
from typing import Any

from hyperforget_jax.inheritance.nodes import Edge, Node, short_hash

__all__ = ["ancestors", "cycle", "digraph", "ids", "levels"]

# Bounded, because a graph that grows node by node leaves as many structures behind.
_remembered = functools.lru_cache(64)


@_remembered
def digraph(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> Any:
    """A frozen ``networkx.DiGraph`` with the fields of nodes and edges as attributes.

    Args:
        nodes: one a model.
        edges: from parent to child.
    """
    import networkx

    graph = networkx.DiGraph()
    for node in nodes:
        attributes = dataclasses.asdict(node)
        graph.add_node(attributes.pop("name"), **attributes)
    for edge in edges:
        attributes = dataclasses.asdict(edge)
        graph.add_edge(attributes.pop("parent"), attributes.pop("child"), **attributes)
    return networkx.freeze(graph)


def cycle(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> tuple[str, ...]:
    """The names along one cycle, each once; empty if there is none.

    Args:
        nodes: one a model.
        edges: from parent to child.
    """
    import networkx

    try:
        found = networkx.find_cycle(digraph(nodes, edges))
    except networkx.NetworkXNoCycle:
        return ()
    return tuple(edge[0] for edge in found)


@_remembered
def levels(
    nodes: tuple[Node, ...], edges: tuple[Edge, ...]
) -> tuple[tuple[str, ...], ...]:
    """Names by generation; within one, in the order of the nodes.

    Args:
        nodes: one a model.
        edges: from parent to child, without cycles.
    """
    import networkx

    generations = networkx.topological_generations(digraph(nodes, edges))
    order = {node.name: row for row, node in enumerate(nodes)}
    return tuple(tuple(sorted(level, key=order.__getitem__)) for level in generations)


@_remembered
def ancestors(
    nodes: tuple[Node, ...], edges: tuple[Edge, ...]
) -> dict[str, frozenset[str]]:
    """Everyone each node inherits from, at any remove. Not to be altered.

    Args:
        nodes: one a model.
        edges: from parent to child, without cycles.
    """
    import networkx

    graph = digraph(nodes, edges)
    return {name: frozenset(networkx.ancestors(graph, name)) for name in graph}


@_remembered
def ids(nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> dict[str, str]:
    """Each node's content-addressed id. Not to be altered.

    Args:
        nodes: one a model.
        edges: from parent to child, without cycles.
    """
    by_name = {node.name: node for node in nodes}
    arriving: dict[str, list[Edge]] = {name: [] for name in by_name}
    for edge in edges:
        arriving[edge.child].append(edge)
    found: dict[str, str] = {}
    # Level by level, so that no chain is too long for the stack.
    for name in (name for level in levels(nodes, edges) for name in level):
        inherited = [
            [found[edge.parent], edge.kind, edge.weight, edge.frozen]
            for edge in arriving[name]
        ]
        found[name] = short_hash({"node": by_name[name], "parents": sorted(inherited)})
    return found
