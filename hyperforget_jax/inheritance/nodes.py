"""The nodes and edges of a graph: plain, static and hashable."""

import dataclasses
import operator
from typing import Any

from hyperforget_jax import digests

__all__ = ["KINDS", "Edge", "Node", "short_hash"]

KINDS = ("average", "dispatch", "incremental", "transfer")
"""How a child may come to its parents' knowledge."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One model of a graph, as everything but numbers.

    Attributes:
        name: unique in its graph.
        time: later than that of every parent.
        classes: labels that it may predict: those known to it or to an ancestor.
        data: what it was trained on, a digest or a word; empty if it only aggregates.
        architecture: models of one architecture are stacked.
        seed: what its training was drawn from.
    """

    name: str
    time: int
    classes: tuple[int, ...]
    data: str = ""
    architecture: str = "default"
    seed: int = 0

    def __post_init__(self):
        # What was given as a list, or by NumPy, must be hashable and plain JSON.
        for name in ("time", "seed"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        object.__setattr__(self, "classes", tuple(map(operator.index, self.classes)))


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
        # Its letters would be taken one by one.
        if isinstance(self.frozen, str):
            raise TypeError(
                f"frozen must be a sequence of strings, got the string "
                f"{self.frozen!r}: write ({self.frozen!r},)."
            )
        object.__setattr__(self, "weight", float(self.weight))
        object.__setattr__(self, "frozen", tuple(self.frozen))


def short_hash(contents: Any) -> str:
    """Compute the first 16 hexadecimal digits of the SHA-256 of canonical JSON."""
    return digests.config_hash(contents)[:16]
