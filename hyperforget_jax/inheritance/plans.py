"""What a network of models is trained on: a graph, and the rows of each node."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.nodes import Edge, Node, short_hash

__all__ = ["NetworkData", "Plan", "by_architecture"]


class NetworkData(NamedTuple):
    """Training examples, and which of them stand behind each node.

    Attributes:
        examples: ``[N]``.
        rows: row numbers by node, int32, ``[M, R]``; padding is N.
    """

    examples: Examples
    rows: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A network that is not trained yet. Made by the builders or :meth:`Plan.create`.

    Attributes:
        graph: a node's classes are those of its rows and of its ancestors' rows.
        rows: which training examples each node sees, bool, ``[M, N]``; a node without
            any is the average of its parents.
        labels: the examples' classes, int32, ``[N]``.
    """

    graph: Graph
    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def create(
        cls,
        data: Examples,
        rows: Mapping[str, np.ndarray],
        edges: Iterable[Edge] = (),
        *,
        architectures: Mapping[str, str] | None = None,
    ) -> "Plan":
        """Make a plan; times, classes and digests follow from the rest.

        Args:
            data: the training examples, ``[N]``; weightless rows are nobody's.
            rows: by node, bool, ``[N]``: what it sees; all False if it only averages.
            edges: from parent to child.
            architectures: by node, where it is not ``"default"``.

        Raises:
            ValueError: rows of another shape; a node that sees nothing and has no
                parents; and as for :class:`Graph`.
        """
        checks.check_is_examples(data)
        labels, weight = np.asarray(data.y), np.asarray(data.weight)
        if not rows:
            raise ValueError("rows is empty: a plan has at least one node.")
        unknown = sorted(set(architectures or {}) - set(rows))
        if unknown:
            raise ValueError(f"architectures names {unknown}, which rows does not.")
        for name, of_node in rows.items():
            if np.shape(of_node) != labels.shape or np.asarray(of_node).dtype != bool:
                raise ValueError(
                    f"rows[{name!r}] must be booleans of shape {labels.shape}, got "
                    f"shape {np.shape(of_node)} and dtype {np.asarray(of_node).dtype}."
                )
        table = np.stack([np.asarray(each) for each in rows.values()]) & (weight > 0)
        edges = tuple(edges)
        kinds = {**dict.fromkeys(rows, "default"), **(architectures or {})}
        drafts = [
            Node(name, time, (0,), architecture=kinds[name])
            for name, time in _times(rows, edges).items()
        ]
        # A graph first, because who knows what depends on who is whose ancestor.
        return cls(Graph(tuple(drafts), edges), table, labels)._described()

    def _described(self) -> "Plan":
        """Make the nodes' classes and digests anew from the rows."""
        graph, nodes = self.graph, []
        seen = {
            name: set(self.labels[of_node].tolist())
            for name, of_node in zip(graph.names, self.rows, strict=True)
        }
        for node, of_node in zip(graph.nodes, self.rows, strict=True):
            line = (node.name, *graph.ancestors(node.name))
            known = tuple(sorted(set().union(*(seen[name] for name in line))))
            if not known:
                raise ValueError(
                    f"{node.name} sees no examples and inherits from nobody who does: "
                    "there is nothing to make it from."
                )
            data = short_hash(np.flatnonzero(of_node).tolist()) if of_node.any() else ""
            nodes.append(dataclasses.replace(node, classes=known, data=data))
        return dataclasses.replace(self, graph=Graph(tuple(nodes), graph.edges))

    def rows_behind(self, name: str) -> np.ndarray:
        """Return a node's rows, int64; if it has none, those behind its parents."""
        rows = np.flatnonzero(self.rows[self._place(name)])
        if rows.size:
            return rows
        edges = self.graph.parents(name)
        return np.unique(np.concatenate([self.rows_behind(e.parent) for e in edges]))

    def data(self, examples: Examples) -> NetworkData:
        """Return the plan's examples with the rows behind each node, for ``init``."""
        self.check_data(examples)
        rows = [self.rows_behind(name) for name in self.graph.names]
        padded = np.full((len(rows), max(map(len, rows))), self.labels.size, np.int32)
        for place, each in enumerate(rows):
            padded[place, : len(each)] = each
        return NetworkData(examples, jnp.asarray(padded))

    def check_data(self, examples: Examples) -> None:
        """Raise ValueError unless examples are those of the plan, by their labels."""
        if not np.array_equal(self.labels, examples.y):
            raise ValueError("data are not those of the plan: their labels differ.")

    def holders(self, request: ForgetRequest) -> tuple[str, ...]:
        """Return the nodes that see any of the rows to be forgotten."""
        held = np.any(self.rows[:, self._wanted(request)], axis=1)
        return tuple(np.array(self.graph.names)[held].tolist())

    def roots(self, request: ForgetRequest) -> tuple[str, ...]:
        """Return the initial models: holders that inherit from no other holder."""
        holders = self.holders(request)
        inherited = set(self.graph.descendants(holders)) if holders else set()
        return tuple(name for name in holders if name not in inherited)

    def requests(
        self, request: ForgetRequest, nodes: Sequence[str] | None = None
    ) -> dict[str, ForgetRequest]:
        """Return a request's shares by node; by default of its roots."""
        asked = self.roots(request) if nodes is None else nodes
        return {name: self.request_at(request, name) for name in asked}

    def request_at(
        self, request: ForgetRequest, name: str, *, capacity: int | None = None
    ) -> ForgetRequest:
        """Return a node's share of a request: its own data and its forgotten rows.

        Args:
            request: made from the data of the plan, here and in every method.
            name: a node's.
            capacity: length of the padded rows; by default the next power of two.
        """
        own = self.rows[self._place(name)]
        data = self._data_of(request)
        weight = np.where(own, np.asarray(data.weight), 0).astype(np.int32)
        rows = np.asarray(request.rows)
        inside = (rows >= 0) & (rows < own.size)
        mine = rows[inside & own[np.clip(rows, 0, own.size - 1)]]
        if capacity is None:
            capacity = 1 << max(mine.size - 1, 0).bit_length()
        if mine.size > capacity:
            raise ValueError(
                f"capacity={capacity} is too small for the {mine.size} rows that "
                f"{name} holds."
            )
        padded = np.full(capacity, own.size, np.int32)
        padded[: mine.size] = mine
        return request._replace(
            data=data._replace(weight=jnp.asarray(weight)), rows=jnp.asarray(padded)
        )

    def without(self, request: ForgetRequest) -> "Plan":
        """Return the plan to retrain: nobody sees the rows to be forgotten."""
        return self._without(request, self.graph.names)

    def inherited(
        self, request: ForgetRequest, keepers: Sequence[str] | None = None
    ) -> "Plan":
        """Return the plan in which descendants merely inherit what is to be forgotten.

        Only ``keepers`` go on seeing it, by default the roots.
        """
        kept = self.roots(request) if keepers is None else keepers
        self.graph.check_names("keepers", kept)
        return self._without(request, [n for n in self.graph.names if n not in kept])

    def _without(self, request, names) -> "Plan":
        rows, gone = self.rows.copy(), self._wanted(request)
        for name in names:
            rows[self.graph.names.index(name), gone] = False
        return dataclasses.replace(self, rows=rows)._described()

    def _place(self, name: str) -> int:
        self.graph.node(name)  # An unknown name is named, with those that are near.
        return self.graph.names.index(name)

    def _wanted(self, request: ForgetRequest) -> np.ndarray:
        self._data_of(request)
        rows = np.asarray(request.rows)
        return rows[(rows >= 0) & (rows < self.labels.size)]

    def _data_of(self, request: ForgetRequest) -> Examples:
        checks.check_is_request(request)
        if (
            request.data is None
            or request.rows is None
            or not np.array_equal(request.data.y, self.labels)
        ):
            raise ValueError(
                "request was not made from the data of the plan: its labels are other "
                "ones, or it carries no data but its own."
            )
        return request.data


def _times(names: Iterable[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Later than every parent; where edges make no graph, its own checks say so."""
    times = dict.fromkeys(names, 0)
    for _ in tuple(times):
        for edge in edges:
            if isinstance(edge, Edge) and {edge.parent, edge.child} <= set(times):
                times[edge.child] = max(times[edge.child], times[edge.parent] + 1)
    return times


def by_architecture(
    graph: Graph, classifier: Classifier | Mapping[str, Classifier]
) -> dict[str, Classifier]:
    """Return the classifiers by architecture.

    Raises:
        ValueError: an architecture without classifier.
    """
    if not isinstance(classifier, Mapping):
        checks.check_is_classifier(classifier)
        return dict.fromkeys(graph.architectures, classifier)
    missing = sorted(set(graph.architectures) - set(classifier))
    if missing:
        raise ValueError(f"classifier has nothing for the architectures {missing}.")
    return {name: classifier[name] for name in graph.architectures}
