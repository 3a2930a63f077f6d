"""Who inherits from whom: a graph of nodes and edges, which holds no arrays.

A graph is static: hashable, plain, and closed over by whatever answers for it. Models
are stacked beside it, by architecture, in the order of its nodes.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from hyperforget_jax import trees
from hyperforget_jax.inheritance.nodes import KINDS, Edge, Node, short_hash
from hyperforget_jax.nearest import did_you_mean

__all__ = ["Graph", "check_models"]

_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Graph:
    """Models that inherit from each other, by name.

    Attributes:
        nodes: one a model; their order is that of the stacked models.
        edges: from parent to child, without cycles.

    Raises:
        TypeError, ValueError: nodes and edges that make no graph of inheritance.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self):
        for name, kind in (("nodes", Node), ("edges", Edge)):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, given)
            for row, each in enumerate(given):
                if not isinstance(each, kind):
                    raise TypeError(
                        f"{name}[{row}] must be of type {kind.__name__}, got "
                        f"{type(each).__name__}."
                    )
        _check_nodes(self.nodes)
        _check_edges(self)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in their order."""
        return tuple(node.name for node in self.nodes)

    @functools.cached_property
    def architectures(self) -> tuple[str, ...]:
        """The nodes' architectures, sorted."""
        return tuple(sorted({node.architecture for node in self.nodes}))

    @functools.cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def _networkx(self) -> Any:
        # It takes long to import, which those alone should pay who inherit.
        import networkx

        graph = networkx.DiGraph()
        for node in self.nodes:
            fields = dataclasses.asdict(node)
            graph.add_node(fields.pop("name"), **fields)
        for edge in self.edges:
            fields = dataclasses.asdict(edge)
            graph.add_edge(fields.pop("parent"), fields.pop("child"), **fields)
        return graph

    @functools.cached_property
    def _ancestors(self) -> dict[str, set[str]]:
        import networkx

        return {name: networkx.ancestors(self._networkx, name) for name in self.names}

    def node(self, name: str) -> Node:
        """Return the node of that name; an error names those that are near."""
        if name not in self._by_name:
            raise ValueError(_unknown("node", name, self.names))
        return self._by_name[name]

    def check_names(self, argument: str, given: Sequence[str]) -> tuple[str, ...]:
        """Return the names given for an argument, if all of them are nodes'."""
        # Its letters would be taken for names.
        if isinstance(given, str):
            raise TypeError(
                f"{argument} must be a sequence of names, got the string {given!r}: "
                f"write [{given!r}]."
            )
        for name in given:
            if name not in self._by_name:
                raise ValueError(f"{argument}: {_unknown('node', name, self.names)}")
        return tuple(given)

    def rows(self, architecture: str) -> tuple[str, ...]:
        """Return the names of the models of one architecture, as they are stacked."""
        if architecture not in self.architectures:
            raise ValueError(_unknown("architecture", architecture, self.architectures))
        return tuple(
            node.name for node in self.nodes if node.architecture == architecture
        )

    def take(self, stacked: Any, name: str) -> Any:
        """Return one node's part of what is stacked, such as ``state.variables``."""
        architecture = self.node(name).architecture
        row = self.rows(architecture).index(name)
        return trees.take(stacked[architecture], row)

    def places(self, architecture: str) -> np.ndarray:
        """Return where the models of one architecture are among all nodes, ``[M]``."""
        kinds = np.array([node.architecture for node in self.nodes])
        return np.flatnonzero(kinds == architecture)

    def parents(self, name: str) -> tuple[Edge, ...]:
        """Return the edges that lead to a node, in the order of the graph's edges."""
        self.node(name)
        return tuple(edge for edge in self.edges if edge.child == name)

    @functools.cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Generations: the first has no parents, and every other one parents before.

        A node stands as early as its parents let it; a level keeps the nodes' order.
        """
        import networkx

        order = {name: row for row, name in enumerate(self.names)}
        return tuple(
            tuple(sorted(level, key=order.__getitem__))
            for level in networkx.topological_generations(self._networkx)
        )

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return everyone a node inherits from, at any remove, in the nodes' order."""
        self.node(name)
        return tuple(each for each in self.names if each in self._ancestors[name])

    def descendants(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return everyone who inherits from any of the nodes, in the nodes' order.

        One of ``names`` is there only if it inherits from another of them.
        """
        wanted = set(self.check_names("names", names))
        return tuple(each for each in self.names if self._ancestors[each] & wanted)

    def reach(
        self, roots: Sequence[str], architecture: str | None = None
    ) -> np.ndarray:
        """Return whether each of J roots is node m or an ancestor of it, ``[M, J]``.

        Of all nodes, or of those of one architecture.
        """
        roots = self.check_names("roots", roots)
        rows = self.names if architecture is None else self.rows(architecture)
        found = [
            root == row or root in self._ancestors[row]
            for row in rows
            for root in roots
        ]
        return np.array(found, bool).reshape(len(rows), len(roots))

    def ids(self, revisions: Mapping[str, Sequence[str]] | None = None):
        """Compute an id of each node and all that it inherited, 16 hexadecimal digits.

        The SHA-256 of its fields and of the edges that lead to it, each with the
        parent's id, whatever the order of nodes and edges.

        Args:
            revisions: by node, the ids of the records of requests that changed it, see
                ``inheritance.revisions``.
        """
        found: dict[str, str] = {}
        # Level by level, so that no chain is too long for the stack.
        for name in (name for level in self.levels for name in level):
            inherited = [
                [found[edge.parent], edge.kind, edge.weight, edge.frozen]
                for edge in self.parents(name)
            ]
            revised = (revisions or {}).get(name, ())
            fields = {**dataclasses.asdict(self.node(name)), "revisions": revised}
            found[name] = short_hash({"node": fields, "parents": sorted(inherited)})
        return found

    def to_networkx(self) -> Any:
        """Return a ``networkx.DiGraph`` of its own, with all fields as attributes."""
        return self._networkx.copy()


def check_models(graph: Graph, stacked: Any, name: str = "variables") -> None:
    """Raise unless something is stacked by architecture over a graph's nodes."""
    if not isinstance(stacked, dict):
        raise TypeError(
            f"{name} must be a dictionary by architecture of stacked models, got "
            f"{type(stacked).__name__}."
        )
    for architecture in stacked:
        if architecture not in graph.architectures:
            missing = _unknown("architecture", architecture, graph.architectures)
            raise ValueError(f"{name}: {missing}")
    missing = sorted(set(graph.architectures) - set(stacked))
    if missing:
        raise ValueError(f"{name} has nothing for the architectures {missing}.")
    for architecture, tree in stacked.items():
        count = len(graph.rows(architecture))
        for path, leaf in trees.by_path(tree).items():
            if jnp.shape(leaf)[:1] != (count,):
                raise ValueError(
                    f"{name}[{architecture!r}] must be stacked over {count} nodes, "
                    f"[{count}, ...]; the leaf {path!r} has shape {jnp.shape(leaf)}."
                )


def _unknown(what: str, name: Any, names: Sequence[str]) -> str:
    """What to say of a name that is not there: the near ones, or else all."""
    if near := did_you_mean(str(name), names):
        return f"there is no {what} {name!r}; {near}"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"there is no {what} {name!r}, but: {shown}."


def _check_nodes(nodes: tuple[Node, ...]) -> None:
    if not nodes:
        raise ValueError("nodes is empty: a graph has at least one model.")
    for name, count in collections.Counter(node.name for node in nodes).items():
        if count > 1:
            raise ValueError(f"duplicate id: {count} nodes are called {name!r}.")
    for node in nodes:
        if not node.classes:
            raise ValueError(f"{node.name!r} has no classes: it could predict nothing.")
        said = f"{node.name!r} has classes {list(node.classes)}: labels"
        if min(node.classes) < 0:
            raise ValueError(f"{said} are non-negative.")
        if len(set(node.classes)) < len(node.classes):
            raise ValueError(f"{said} must not repeat.")


def _check_edges(graph: Graph) -> None:
    import networkx

    weights: dict[str, list[float]] = {}
    pairs = set()
    for edge in graph.edges:
        where = f"{edge.parent} -> {edge.child}"
        for role, name in (("parent", edge.parent), ("child", edge.child)):
            if name not in graph.names:
                said = _unknown("node", name, graph.names)
                raise ValueError(f"unknown {role} of {where}: {said}")
        if edge.parent == edge.child:
            raise ValueError(f"{where} is an edge from a node to itself.")
        if edge.kind not in KINDS:
            raise ValueError(
                f"{where} has kind {edge.kind!r}; allowed: {', '.join(KINDS)}."
            )
        # Written so that NaN fails.
        if not edge.weight > 0:
            raise ValueError(
                f"{where} has weight {edge.weight}, which is not positive."
            )
        if (edge.parent, edge.child) in pairs:
            raise ValueError(f"duplicate edge: {where}.")
        pairs.add((edge.parent, edge.child))
        weights.setdefault(edge.child, []).append(edge.weight)
    for child, shares in weights.items():
        total = math.fsum(shares)
        if not abs(total - 1) <= _TOLERANCE:
            raise ValueError(
                f"The weights of {child!r} must sum to one; those of its "
                f"{len(shares)} parents sum to {total:g}."
            )
    try:
        cycle = [edge[0] for edge in networkx.find_cycle(graph.to_networkx())]
        raise ValueError(f"The graph has a cycle: {' -> '.join([*cycle, cycle[0]])}.")
    except networkx.NetworkXNoCycle:
        pass
    for edge in graph.edges:
        parent, child = graph.node(edge.parent), graph.node(edge.child)
        if child.time <= parent.time:
            raise ValueError(
                f"{child.name!r} (time {child.time}) must be later than its parent "
                f"{parent.name!r} (time {parent.time})."
            )
        if edge.kind == "average" and parent.architecture != child.architecture:
            raise ValueError(
                f"{parent.name} -> {child.name} averages over the architectures "
                f"{parent.architecture!r} and {child.architecture!r}: mismatched trees "
                "cannot be averaged."
            )
