"""The nouns of inheritance: nodes, edges, their stacked models, and the audit.

All but the models are static: hashable, plain, and the same under any transformation.
"""

import dataclasses
import operator
from typing import Any, NamedTuple

from hyperforget_jax import manifests
from hyperforget_jax.base import Variables

__all__ = ["KINDS", "Edge", "Models", "Node", "Record", "short_hash"]

KINDS = ("average", "dispatch", "incremental", "transfer")
"""How a child may come to its parents' knowledge."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One model of a graph, as everything but numbers.

    Attributes:
        name: unique in its graph.
        time: later than that of every parent.
        classes: labels that it may answer: those known to it or to an ancestor.
        data: what it was trained on, a digest or a word; empty if it only aggregates.
        architecture: models of one architecture are stacked.
        seed: what its training was drawn from.
        revisions: ids of the audit's records of requests that changed it, in order.
    """

    name: str
    time: int
    classes: tuple[int, ...]
    data: str = ""
    architecture: str = "default"
    seed: int = 0
    revisions: tuple[str, ...] = ()

    def __post_init__(self):
        # What was given as a list, or by NumPy, must be hashable and plain JSON.
        for name in ("time", "seed"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        object.__setattr__(self, "classes", tuple(map(operator.index, self.classes)))
        object.__setattr__(self, "revisions", _strings("revisions", self.revisions))


@dataclasses.dataclass(frozen=True)
class Edge:
    """One inheritance.

    Attributes:
        parent: the name of who hands down.
        child: the name of who inherits.
        kind: one of :data:`KINDS`: ``"average"`` of several parents, ``"dispatch"`` of
            a copy, ``"incremental"`` training on new classes, or ``"transfer"`` to
            other data.
        weight: the share of the parent in the child's starting point. A child's
            weights sum to one.
        frozen: paths of parameters that the child does not train, or their beginnings:
            ``"Dense_0"`` or ``"Dense_0/kernel"``.
    """

    parent: str
    child: str
    kind: str = "dispatch"
    weight: float = 1.0
    frozen: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "weight", float(self.weight))
        object.__setattr__(self, "frozen", _strings("frozen", self.frozen))


class Models(NamedTuple):
    """The models of one architecture, stacked.

    Attributes:
        variables: leaves ``[M, ...]``, M the nodes of the architecture, in the graph's
            order of nodes.
        fisher: the Fisher information of each node's training data, leaves
            ``[M, ...]``, taken when the node was registered; or None.
    """

    variables: Variables
    fisher: Any = None


@dataclasses.dataclass(frozen=True)
class Record:
    """One request that was answered. Made by :meth:`Record.create`.

    Records name their predecessors, so that none can be taken out or altered without
    its successors noticing.

    Attributes:
        id: a digest of all other fields.
        roots: the nodes that the request was made to.
        descendants: the nodes that were changed.
        request: what was to be forgotten: ``"classes 3"``, or a digest of row ids.
        method: what did it: a preset and its numbers.
        previous: the id of the record before it, or empty.
    """

    id: str
    roots: tuple[str, ...]
    descendants: tuple[str, ...]
    request: str
    method: str
    previous: str = ""

    def __post_init__(self):
        for name in ("roots", "descendants"):
            object.__setattr__(self, name, _strings(name, getattr(self, name)))

    @classmethod
    def create(
        cls,
        *,
        roots: tuple[str, ...],
        descendants: tuple[str, ...],
        request: str,
        method: str,
        previous: str = "",
    ) -> "Record":
        """A record with the id that its contents ask for.

        Args:
            roots: as in :class:`Record`, like all that follow.
            descendants: the nodes that were changed.
            request: what was to be forgotten.
            method: what did it.
            previous: the id of the record before it, or empty.
        """
        draft = cls("", roots, descendants, request, method, previous)
        return dataclasses.replace(draft, id=short_hash(draft))


def short_hash(contents: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of contents as canonical JSON.

    Args:
        contents: dataclasses, mappings, sequences, numbers and strings.

    Raises:
        TypeError: something JSON cannot hold, named by its key.
    """
    return manifests.config_hash(contents)[:16]


def _strings(name: str, given: Any) -> tuple[str, ...]:
    # Its letters would be taken one by one.
    if isinstance(given, str):
        raise TypeError(
            f"{name} must be a sequence of strings, got the string {given!r}: write "
            f"({given!r},)."
        )
    return tuple(given)
