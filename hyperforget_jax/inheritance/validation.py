"""What a graph must be, checked when it is made and when it is loaded."""

import collections
import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hyperforget_jax.inheritance import topology
from hyperforget_jax.inheritance.nodes import (
    KINDS,
    Edge,
    Node,
    Record,
    short_hash,
)

if TYPE_CHECKING:
    # The graph checks itself with this module.
    from hyperforget_jax.inheritance.graph import Graph

__all__ = [
    "check_audit",
    "check_names",
    "check_roots",
    "check_structure",
    "unknown",
]

_TOLERANCE = 1e-6


def check_structure(nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
    """Raises unless nodes and edges are a graph of inheritance.

    Args:
        nodes: at least one.
        edges: from parent to child.

    Raises:
        TypeError: something that is no node or no edge.
        ValueError: no node; a name twice; a node without classes, or with negative or
            repeated ones; an edge from or to nowhere, to itself, twice, or of unknown
            kind; weights that are not positive or do not sum to one; a cycle; a child
            that is not later than its parent; an average over architectures.
    """
    _check_types("nodes", nodes, Node)
    _check_types("edges", edges, Edge)
    if not nodes:
        raise ValueError("nodes is empty: a graph has at least one model.")
    names = [node.name for node in nodes]
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise ValueError(f"duplicate id: {count} nodes are called {name!r}.")
    for node in nodes:
        _check_node(node)
    for edge in edges:
        _check_edge(edge, names)
    pairs = collections.Counter((edge.parent, edge.child) for edge in edges)
    for (parent, child), count in pairs.items():
        if count > 1:
            raise ValueError(f"duplicate edge: {parent} -> {child}, {count} times.")
    _check_weights(edges)
    _check_cycles(nodes, edges)
    by_name = {node.name: node for node in nodes}
    for edge in edges:
        parent, child = by_name[edge.parent], by_name[edge.child]
        if child.time <= parent.time:
            raise ValueError(
                f"{child.name!r} (time {child.time}) must be later than its parent "
                f"{parent.name!r} (time {parent.time})."
            )


def check_audit(nodes: Sequence[Node], audit: Sequence[Record]) -> None:
    """Raises unless the audit is whole and accounts for every revision.

    Args:
        nodes: the graph's.
        audit: its records, in order.

    Raises:
        TypeError: something that is no record.
        ValueError: a record whose id is not its contents', that does not follow the
            one before, or that names no node; a revision without record.
    """
    _check_types("audit", audit, Record)
    names, previous = [node.name for node in nodes], ""
    for record in audit:
        if record.id != short_hash(dataclasses.replace(record, id="")):
            raise ValueError(
                f"audit: the record {record.id!r} is not what its id says."
            )
        if record.previous != previous:
            raise ValueError(
                f"audit: the record {record.id!r} follows {record.previous!r}, but "
                f"stands behind {previous!r}."
            )
        check_names("audit", (*record.roots, *record.descendants), names)
        previous = record.id
    for node in nodes:
        for revision in node.revisions:
            if revision not in {record.id for record in audit}:
                raise ValueError(
                    f"{node.name!r} has the revision {revision!r}, of which the audit "
                    "has no record."
                )


def check_roots(
    graph: "Graph", roots: Sequence[str], classes: Sequence[int] = ()
) -> tuple[str, ...]:
    """Raises unless a request may be made to the nodes.

    Args:
        graph: the graph.
        roots: nodes' names, at least one, each once.
        classes: labels to forget, each of which every root must know; empty for a
            request about rows.

    Returns:
        The roots.

    Raises:
        TypeError: a string instead of a sequence of them.
        ValueError: no root, an unknown or repeated one, or one that does not know a
            class.
    """
    roots = check_names("roots", roots, graph.names)
    if not roots:
        raise ValueError("roots is empty: a request is made to at least one node.")
    for root, count in collections.Counter(roots).items():
        if count > 1:
            raise ValueError(f"roots must not repeat, got {root!r} {count} times.")
        known = graph.node(root).classes
        for label in classes:
            if label not in known:
                raise ValueError(
                    f"The root {root!r} does not know class {label}; its classes are "
                    f"{list(known)}."
                )
    return roots


def check_names(
    argument: str, given: Sequence[str], names: Sequence[str]
) -> tuple[str, ...]:
    """The given names, if all of them are nodes'.

    Args:
        argument: the argument's name, for the message.
        given: what was given for it.
        names: the graph's.

    Raises:
        TypeError: a string instead of a sequence of them.
        ValueError: an unknown name.
    """
    # Its letters would be taken for names.
    if isinstance(given, str):
        raise TypeError(
            f"{argument} must be a sequence of names, got the string {given!r}: write "
            f"[{given!r}]."
        )
    for name in given:
        if name not in names:
            raise ValueError(f"{argument}: {unknown('node', name, names)}")
    return tuple(given)


def unknown(what: str, name: Any, names: Sequence[str]) -> str:
    """What to say of a name that is not there: the near ones, or else all."""
    near = difflib.get_close_matches(str(name), names)
    if near:
        return f"there is no {what} {name!r}; did you mean {' or '.join(near)}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"there is no {what} {name!r}, but: {shown}."


def _check_types(argument: str, given: Sequence[Any], wanted: type) -> None:
    for row, each in enumerate(given):
        if not isinstance(each, wanted):
            raise TypeError(
                f"{argument}[{row}] must be of type {wanted.__name__}, got "
                f"{type(each).__name__}."
            )


def _check_node(node: Node) -> None:
    if not node.classes:
        raise ValueError(f"{node.name!r} has no classes: it could answer nothing.")
    if min(node.classes) < 0:
        raise ValueError(
            f"{node.name!r} has classes {list(node.classes)}: labels are non-negative."
        )
    if len(set(node.classes)) < len(node.classes):
        raise ValueError(
            f"{node.name!r} has classes {list(node.classes)}: labels must not repeat."
        )


def _check_edge(edge: Edge, names: Sequence[str]) -> None:
    where = f"{edge.parent} -> {edge.child}"
    for role, name in (("parent", edge.parent), ("child", edge.child)):
        if name not in names:
            raise ValueError(
                f"unknown {role} of {where}: {unknown('node', name, names)}"
            )
    if edge.parent == edge.child:
        raise ValueError(f"{where} is an edge from a node to itself.")
    if edge.kind not in KINDS:
        raise ValueError(
            f"{where} has kind {edge.kind!r}; allowed: {', '.join(KINDS)}."
        )
    # Written so that NaN fails.
    if not edge.weight > 0:
        raise ValueError(f"{where} has weight {edge.weight}, which is not positive.")


def _check_weights(edges: Sequence[Edge]) -> None:
    weights: dict[str, list[float]] = {}
    for edge in edges:
        weights.setdefault(edge.child, []).append(edge.weight)
    for child, shares in weights.items():
        total = math.fsum(shares)
        if not abs(total - 1) <= _TOLERANCE:
            raise ValueError(
                f"The weights of {child!r} must sum to one; those of its "
                f"{len(shares)} parents sum to {total:g}."
            )


def _check_cycles(nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
    cycle = topology.cycle(tuple(nodes), tuple(edges))
    if not cycle:
        return
    path = " -> ".join((*cycle, cycle[0]))
    raise ValueError(f"The graph has a cycle: {path}.")
