"""Graphs of models that inherit from each other.

A graph is a pytree whose leaves are its models and whose structure is static: it
passes through ``jit`` and ``vmap`` like any state, and asking it for its ancestors
costs nothing under a trace.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hyperforget_jax.base import Variables
from hyperforget_jax.inheritance import stacking, topology, validation
from hyperforget_jax.inheritance.nodes import Edge, Models, Node, Record

__all__ = ["Graph"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Graph:
    """Models, and who inherited from whom. Made by :meth:`Graph.create`.

    The constructor checks nothing, because JAX calls it with whatever stands for
    arrays.

    Attributes:
        models: stacked models by architecture; empty for a graph that is not trained.
        nodes: one a model.
        edges: from parent to child, without cycles.
        audit: the requests that were answered, in order.
    """

    models: dict[str, Models]
    nodes: tuple[Node, ...] = dataclasses.field(metadata={"static": True})
    edges: tuple[Edge, ...] = dataclasses.field(metadata={"static": True})
    audit: tuple[Record, ...] = dataclasses.field(default=(), metadata={"static": True})

    @classmethod
    def create(
        cls,
        nodes: Iterable[Node],
        edges: Iterable[Edge] = (),
        models: Mapping[str, Models] | None = None,
        audit: Iterable[Record] = (),
    ) -> "Graph":
        """A graph that was checked.

        Args:
            nodes: at least one; their order is that of the stacked models.
            edges: from parent to child.
            models: by architecture, leaves ``[M, ...]``; None or empty if the graph is
                not trained yet.
            audit: the requests that were answered, in order.

        Raises:
            TypeError: something that is no node, edge, record or models.
            ValueError: a malformed graph, as ``validation`` and ``stacking`` tell them.
        """
        graph = cls(dict(models or {}), tuple(nodes), tuple(edges), tuple(audit))
        validation.check_structure(graph.nodes, graph.edges)
        validation.check_audit(graph.nodes, graph.audit)
        stacking.check_models(graph.nodes, graph.edges, graph.models)
        return graph

    def with_models(self, models: Mapping[str, Models]) -> "Graph":
        """The same graph with other models, checked.

        Args:
            models: by architecture, leaves ``[M, ...]``.

        Raises:
            TypeError, ValueError: as for :meth:`create`.
        """
        stacking.check_models(self.nodes, self.edges, models)
        return dataclasses.replace(self, models=dict(models))

    def revised(
        self,
        models: Mapping[str, Models],
        *,
        roots: Sequence[str],
        descendants: Sequence[str],
        request: str,
        method: str,
    ) -> "Graph":
        """The graph after a request: other models, and the audit that says why.

        Args:
            models: by architecture, leaves ``[M, ...]``.
            roots: the nodes that the request was made to.
            descendants: the nodes that were changed, each of which gets a revision.
            request: what was to be forgotten.
            method: what did it.

        Raises:
            TypeError, ValueError: as for :meth:`create`, or an unknown node.
        """
        for name in (*roots, *descendants):
            self.node(name)
        record = Record.create(
            roots=tuple(roots),
            descendants=tuple(descendants),
            request=request,
            method=method,
            previous=self.audit[-1].id if self.audit else "",
        )
        nodes = tuple(
            dataclasses.replace(node, revisions=(*node.revisions, record.id))
            if node.name in record.descendants
            else node
            for node in self.nodes
        )
        graph = dataclasses.replace(self, nodes=nodes, audit=(*self.audit, record))
        return graph.with_models(models)

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in their order."""
        return tuple(node.name for node in self.nodes)

    @property
    def architectures(self) -> tuple[str, ...]:
        """The nodes' architectures, sorted."""
        return tuple(sorted({node.architecture for node in self.nodes}))

    def node(self, name: str) -> Node:
        """The node of that name.

        Args:
            name: a node's.

        Raises:
            ValueError: no such node; names that are near are named.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise ValueError(validation.unknown("node", name, self.names))

    def rows(self, architecture: str) -> tuple[str, ...]:
        """The names of the models of one architecture, as they are stacked.

        Args:
            architecture: a node's.

        Raises:
            ValueError: no such architecture.
        """
        if architecture not in self.architectures:
            raise ValueError(
                validation.unknown("architecture", architecture, self.architectures)
            )
        return tuple(
            node.name for node in self.nodes if node.architecture == architecture
        )

    def variables(self, name: str) -> Variables:
        """One node's variables, without the stacking axis.

        Args:
            name: a node's.

        Raises:
            ValueError: no such node, or the graph is not trained.
        """
        return self._slice(name).variables

    def fisher(self, name: str) -> Any:
        """One node's Fisher information, without the stacking axis; None if not kept.

        Args:
            name: a node's.

        Raises:
            ValueError: no such node, or the graph is not trained.
        """
        return self._slice(name).fisher

    def parents(self, name: str) -> tuple[Edge, ...]:
        """The edges that lead to a node, in the order of the graph's edges.

        Args:
            name: a node's.
        """
        self.node(name)
        return tuple(edge for edge in self.edges if edge.child == name)

    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Generations: the first has no parents, and every other one parents before.

        A node stands as early as its parents let it; within a level nodes keep their
        order.
        """
        return topology.levels(self.nodes, self.edges)

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Everyone a node inherits from, at any remove, in the order of the nodes.

        Args:
            name: a node's.
        """
        self.node(name)
        found = topology.ancestors(self.nodes, self.edges)[name]
        return tuple(each for each in self.names if each in found)

    def descendants(self, names: Sequence[str]) -> tuple[str, ...]:
        """Everyone who inherits from any of the nodes, in the order of the nodes.

        A node is not its own descendant: one of ``names`` is there only if it inherits
        from another of them.

        Args:
            names: nodes'.
        """
        wanted = set(validation.check_names("names", names, self.names))
        found = topology.ancestors(self.nodes, self.edges)
        return tuple(each for each in self.names if found[each] & wanted)

    def reach(
        self, roots: Sequence[str], architecture: str | None = None
    ) -> np.ndarray:
        """Which nodes stand on which roots.

        Args:
            roots: J nodes' names.
            architecture: the rows wanted, in stacking order; None for all nodes, in
                theirs.

        Returns:
            bool, ``[M, J]``: whether root j is node m, or an ancestor of it.
        """
        roots = validation.check_names("roots", roots, self.names)
        rows = self.names if architecture is None else self.rows(architecture)
        found = topology.ancestors(self.nodes, self.edges)
        return np.array(
            [[root == row or root in found[row] for root in roots] for row in rows],
            bool,
        ).reshape(len(rows), len(roots))

    def id(self, name: str) -> str:
        """What a node is, with all that it inherited: 16 hexadecimal digits.

        The SHA-256 of its fields and, for each edge that leads to it, of the parent's
        id, kind, weight and frozen paths. It does not depend on the order of nodes or
        of edges, and not on models.

        Args:
            name: a node's.
        """
        self.node(name)
        return topology.ids(self.nodes, self.edges)[name]

    def to_networkx(self) -> Any:
        """A ``networkx.DiGraph`` of its own, with all fields as attributes."""
        return topology.digraph(self.nodes, self.edges).copy()

    def _slice(self, name: str) -> Models:
        architecture = self.node(name).architecture
        if architecture not in self.models:
            raise ValueError(
                f"The graph holds no models of the architecture {architecture!r}: it "
                "is not trained yet."
            )
        row = self.rows(architecture).index(name)
        return jax.tree.map(lambda leaf: leaf[row], self.models[architecture])
