"""Plans as they come up: federated, data-parallel, incremental, transfer learning.

All take a typed key, which is consumed, and the training examples, ``[N]``. Shards are
disjoint draws from the examples; each builder says who gets which.
"""

from collections.abc import Sequence

import jax
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Examples
from hyperforget_jax.inheritance.nodes import Edge
from hyperforget_jax.inheritance.plans import Plan

__all__ = [
    "data_parallel",
    "federated_averaging",
    "federated_chain",
    "federated_dag",
    "incremental",
    "transfer",
]


def shards(key: Array, data: Examples, sizes: Sequence[float]) -> np.ndarray:
    """Draw disjoint shards of relative sizes ``[K]``; bool, ``[K, N]``."""
    if not len(sizes) or min(sizes) <= 0:
        raise ValueError(f"sizes must be positive, got {list(sizes)}.")
    weight = np.asarray(data.weight)
    active = np.flatnonzero(weight > 0)
    order = np.asarray(jax.random.permutation(key, active))
    ends = np.round(np.cumsum(sizes) / np.sum(sizes) * active.size).astype(int)
    if (np.diff(ends, prepend=0) < 1).any():
        raise ValueError(
            f"{active.size} examples are too few for {len(sizes)} shards of relative "
            f"sizes {list(sizes)}: one would be empty."
        )
    table = np.zeros((len(sizes), weight.size), bool)
    for index, rows in enumerate(np.split(order, ends[:-1])):
        table[index, rows] = True
    return table


def _check_length(length: int) -> None:
    checks.check_sizes(length=length)
    if length < 2:
        raise ValueError(f"length must be at least 2, got {length}.")


def _average(parents: Sequence[str], child: str) -> list[Edge]:
    return [Edge(parent, child, "average", 1 / len(parents)) for parent in parents]


def federated_dag(key: Array, data: Examples, *, sensitive: Sequence[int] = ()) -> Plan:
    """Plan the paper's small federated graph, on six shards of equal size.

    Two models, d and s, of clients without the sensitive classes; r1 from the average
    of both; r2 from r1; r3 from the average of d and r2; r4 from that of r1 and r2.
    The topology is that of arXiv 2408.08493's code, where all clients of a kind train
    on the same shard; here every node has its own.

    Args:
        sensitive: the classes that d and s do not have.
    """
    part = shards(key, data, [1] * 6)
    harmless = ~np.isin(np.asarray(data.y), list(sensitive))
    names = ("d", "s", "r1", "r2", "r3", "r4")
    rows = dict(zip(names, part, strict=True))
    rows["d"], rows["s"] = rows["d"] & harmless, rows["s"] & harmless
    edges = [
        *_average(["d", "s"], "r1"),
        Edge("r1", "r2", "dispatch"),
        *_average(["d", "r2"], "r3"),
        *_average(["r1", "r2"], "r4"),
    ]
    return Plan.create(data, rows, edges)


def federated_averaging(
    key: Array,
    data: Examples,
    *,
    rounds: int = 3,
    client_sizes: Sequence[float] = (3, 2, 2, 1),
) -> Plan:
    """Plan federated averaging (McMahan et al., arXiv 1602.05629).

    In each round every client goes on from the server's model with its own shard, and
    the server averages them in proportion to their rows. Nodes are ``server0``, which
    is trained on the first client's shard to begin with, ``client{k}.{t}`` and
    ``server{t}``.

    Args:
        rounds: T, at least one.
        client_sizes: relative sizes of the clients' shards.
    """
    checks.check_sizes(rounds=rounds)
    part = shards(key, data, client_sizes)
    counts = part.sum(axis=1)
    nobody = np.zeros(part.shape[1], bool)
    rows, edges = {"server0": part[0]}, []
    for t in range(1, rounds + 1):
        for k, of_client in enumerate(part):
            rows[f"client{k}.{t}"] = of_client
            edges.append(Edge(f"server{t - 1}", f"client{k}.{t}", "dispatch"))
        rows[f"server{t}"] = nobody
        edges += [
            Edge(f"client{k}.{t}", f"server{t}", "average", count / counts.sum())
            for k, count in enumerate(counts)
        ]
    return Plan.create(data, rows, edges)


def federated_chain(key: Array, data: Examples, *, length: int = 25) -> Plan:
    """Plan a deep federated graph: aggregates of the last one and one client.

    Nodes ``a0, a1, ...`` are one client's, each going on from the one before, and
    ``d0, d1, ...`` the aggregates: ``d{i}`` starts from the average of ``a{i}`` and
    ``d{i-1}`` (the deep experiment of arXiv 2408.08493's code, on distinct shards).

    Args:
        length: how many of either; the graph has twice as many nodes.
    """
    _check_length(length)
    part = shards(key, data, [1] * (2 * length))
    rows, edges = {}, []
    for i in range(length):
        rows[f"a{i}"], rows[f"d{i}"] = part[2 * i], part[2 * i + 1]
        if i == 0:
            edges.append(Edge("a0", "d0", "dispatch"))
            continue
        edges.append(Edge(f"a{i - 1}", f"a{i}", "dispatch"))
        edges += _average([f"a{i}", f"d{i - 1}"], f"d{i}")
    return Plan.create(data, rows, edges)


def data_parallel(
    key: Array, data: Examples, *, workers: int = 3, rounds: int = 2
) -> Plan:
    """Plan data-parallel training: workers train apart and are averaged.

    ``u1, ..., uK`` train from scratch on their shards; ``u0`` goes on from their
    average with a shard of its own, and dispatches to the workers of the next round,
    ``v1, ...``, who go on with theirs. A last average, which nobody trains, closes
    every round but the first.

    Args:
        workers: K.
        rounds: at least one.
    """
    checks.check_sizes(workers=workers, rounds=rounds)
    if workers < 2 or not 1 <= rounds <= 5:
        raise ValueError(
            f"workers must be at least 2 and rounds in [1, 5], got {workers} and "
            f"{rounds}."
        )
    part = shards(key, data, [1] * (workers + 1))
    nobody = np.zeros(part.shape[1], bool)
    rows, edges = {}, []
    for t, letter in enumerate("uvwxy"[:rounds]):
        for k in range(1, workers + 1):
            rows[f"{letter}{k}"] = part[k]
            if t:
                edges.append(Edge(f"{chr(ord(letter) - 1)}0", f"{letter}{k}"))
        rows[f"{letter}0"] = nobody if t else part[0]
        clients = [f"{letter}{k}" for k in range(1, workers + 1)]
        edges += _average(clients, f"{letter}0")
    return Plan.create(data, rows, edges)


def incremental(
    key: Array,
    data: Examples,
    *,
    length: int = 4,
    first_classes: int | None = None,
    num_classes: int = 10,
) -> Plan:
    """Plan a class-incremental chain: a new shard at every step, new classes at some.

    ``u0`` knows the first classes; classes are added one by one at steps spread over
    the chain, and once added belong to every later shard.

    Args:
        length: nodes of the chain.
        first_classes: how many ``u0`` knows; by default all but one a step, three at
            most.
        num_classes: C.
    """
    _check_length(length)
    checks.check_sizes(num_classes=num_classes)
    if first_classes is None:
        first_classes = num_classes - min(length - 1, 3)
    if not 1 <= first_classes <= num_classes:
        raise ValueError(
            f"first_classes must lie in [1, {num_classes}], got {first_classes}."
        )
    part = shards(key, data, [1] * length)
    y = np.asarray(data.y)
    added = num_classes - first_classes
    rows = {}
    for step in range(length):
        known = first_classes + -(-added * step // (length - 1))
        rows[f"u{step}"] = part[step] & (y < known)
    edges = [
        Edge(f"u{step - 1}", f"u{step}", "incremental") for step in range(1, length)
    ]
    return Plan.create(data, rows, edges)


def transfer(
    key: Array, data: Examples, *, children: int = 3, frozen: Sequence[str]
) -> Plan:
    """Plan a transfer-learning star: children train on their shards what is not frozen.

    Args:
        children: how many, ``t1, t2, ...``, of the parent ``u0``.
        frozen: paths of the backbone, such as ``("Dense_0",)``.
    """
    checks.check_sizes(children=children)
    part = shards(key, data, [2] + [1] * children)
    names = ["u0", *(f"t{k}" for k in range(1, children + 1))]
    edges = [Edge("u0", name, "transfer", frozen=tuple(frozen)) for name in names[1:]]
    return Plan.create(data, dict(zip(names, part, strict=True)), edges)
