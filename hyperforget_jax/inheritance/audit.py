"""The log of answered requests: records that name their predecessors. Host code."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperforget_jax.base import ForgetRequest
from hyperforget_jax.fisher import FIUnConfig
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.nodes import short_hash

__all__ = ["Record", "record", "revisions", "verify"]


@dataclasses.dataclass(frozen=True)
class Record:
    """One request that was answered.

    None can be taken out or altered without its successors noticing.

    Attributes:
        roots: the nodes that the request was made to.
        descendants: the nodes that were changed.
        request: what was to be forgotten: ``"classes 3"``, or a digest of row ids.
        method: what did it, and its numbers.
        previous: the id of the record before it, or empty.
        id: a digest of all other fields; made if it is empty.
    """

    roots: tuple[str, ...]
    descendants: tuple[str, ...]
    request: str
    method: str
    previous: str = ""
    id: str = ""

    def __post_init__(self):
        for name in ("roots", "descendants"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.id:
            object.__setattr__(self, "id", self.digest())

    def digest(self) -> str:
        """Compute the id that the other fields ask for."""
        return short_hash({**dataclasses.asdict(self), "id": ""})


def record(
    audit: Sequence[Record],
    graph: Graph,
    requests: Mapping[str, ForgetRequest],
    config: FIUnConfig,
) -> tuple[Record, ...]:
    """Return the audit with a record of a request that was answered.

    Args:
        audit: earlier records, in order; empty to begin with.
        graph: the graph that answered.
        requests: by root, as they were given.
        config: what they were answered by.
    """
    roots = tuple(requests)
    reached = np.any(graph.reach(roots), axis=1).tolist()
    descendants = [n for n, is_in in zip(graph.names, reached, strict=True) if is_in]
    fields = {
        name: value if isinstance(value, bool | int | str) else float(value)
        for name, value in dataclasses.asdict(config).items()
    }
    values = ", ".join(f"{name}={value}" for name, value in fields.items())
    new = Record(
        roots,
        tuple(descendants),
        "; ".join(f"{root}: {_asked(each)}" for root, each in requests.items()),
        f"fiun({values})",
        audit[-1].id if audit else "",
    )
    return (*audit, new)


def verify(audit: Sequence[Record], graph: Graph) -> None:
    """Raise unless an audit is whole and speaks of a graph's nodes.

    Raises:
        TypeError: something that is no record.
        ValueError: a record whose id is not its contents', that does not follow the one
            before, or that names no node.
    """
    previous = ""
    for row, each in enumerate(audit):
        if not isinstance(each, Record):
            raise TypeError(
                f"audit[{row}] must be of type Record, got {type(each).__name__}."
            )
        if each.id != each.digest():
            raise ValueError(f"audit: the record {each.id!r} is not what its id says.")
        if each.previous != previous:
            raise ValueError(
                f"audit: the record {each.id!r} follows {each.previous!r}, but stands "
                f"behind {previous!r}."
            )
        graph.check_names("audit", (*each.roots, *each.descendants))
        previous = each.id


def revisions(audit: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return the ids of the records of requests that changed each node, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for each in audit:
        for name in each.descendants:
            found[name] = (*found.get(name, ()), each.id)
    return found


def _asked(request: Any) -> str:
    classes = np.flatnonzero(request.classes).tolist()
    if classes:
        return "classes " + ", ".join(map(str, classes))
    ids = np.asarray(request.forget.id)
    return f"rows {short_hash(sorted(ids[ids >= 0].tolist()))}"
