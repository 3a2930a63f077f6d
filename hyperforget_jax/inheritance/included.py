"""What each node's Fisher is of, and what a request takes out of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import Array, ForgetRequest
from hyperforget_jax.fisher import Fisher, FIUnConfig
from hyperforget_jax.forgotten import Forgotten, find
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.plans import NetworkData

__all__ = [
    "Included",
    "check_forget",
    "check_roots",
    "measure_included",
    "take_out",
    "without_share",
]

_EXACT = lax.Precision.HIGHEST


class Included(NamedTuple):
    """What the Fishers of the nodes are of.

    Attributes:
        rows: which examples, in the order of ``forgotten.id``, bool, ``[M, N]``.
        weight: how much of each class, float32, ``[M, C]``.
    """

    rows: Array
    weight: Array


def measure_included(data: NetworkData, num_classes: int) -> Included:
    """Return what stands behind each node before any request."""
    examples, num_rows = data.examples, data.examples.id.shape[0]
    rank = jnp.argsort(jnp.argsort(examples.id))

    def one(rows):
        own = examples.take(rows)
        there = own.weight > 0
        at = jnp.where(there, rank[jnp.minimum(rows, num_rows - 1)], num_rows)
        held = jnp.zeros(num_rows, bool).at[at].set(True, mode="drop")
        of_class = jax.nn.one_hot(own.y, num_classes, dtype=jnp.float32)
        weight = jnp.where(there, own.weight, 0).astype(jnp.float32)
        return held, jnp.matmul(weight, of_class, precision=_EXACT)

    return Included(*lax.map(one, data.rows))


def take_out(graph, included: Included, ids: Array, asked) -> tuple[Array, Included]:
    """Take what the roots' requests name out of what the nodes' Fishers are of.

    Of classes everything that a node holds, of rows those that it holds itself. What
    several roots name counts for the first of them.

    Returns:
        How much is taken out by node and root, float32, ``[M, J]``, and what is left.
    """
    (rows, weight), amounts = included, []
    for root, request in asked.items():
        forget = request.forget
        reached = jnp.asarray(graph.reach([root]))  # [M, 1]
        place, known = find(ids, forget.id)
        there = known & (forget.weight > 0)
        of_class = jax.nn.one_hot(forget.y, weight.shape[1], dtype=jnp.float32)
        counts = jnp.where(there, forget.weight, 0).astype(jnp.float32)
        held = rows[:, place].astype(jnp.float32)  # [M, F]
        named = jnp.matmul(held, of_class * counts[:, None], precision=_EXACT)
        named = jnp.where(request.classes, weight, jnp.minimum(named, weight))
        named = jnp.where(reached, named, 0)
        named_rows = jnp.zeros(ids.shape, bool).at[place].max(there)
        rows, weight = rows & ~(reached & named_rows[None]), weight - named
        amounts.append(jnp.sum(named, axis=1))
    return jnp.stack(amounts, axis=1), Included(rows, weight)


def without_share(
    own: Fisher, amount: Array, roots: Fisher, config: FIUnConfig
) -> Fisher:
    """Return a node's Fisher less ``amount``, ``[J]``, of what J roots' Fishers say."""
    if own.batch_size is not None:
        amount = amount / own.batch_size
    total = jnp.sum(amount)

    def squares(root, mine):
        scale = fisher.trace(mine) if config.match_trace else 1
        # What does not reach the node may be anything: zero times NaN is NaN.
        finite = jnp.isfinite(root)
        lost = jnp.tensordot(amount, (~finite).astype(jnp.float32), 1) > 0
        said = jnp.tensordot(amount, jnp.where(finite, root, 0), 1, precision=_EXACT)
        return jnp.where(lost, jnp.nan, scale * said)

    left = fisher.subtract(own, jax.tree.map(squares, roots.values, own.values), total)
    return jax.tree.map(lambda new, old: jnp.where(total > 0, new, old), left, own)


def check_roots(graph: Graph, forgotten: Forgotten, requests, config) -> None:
    """Raise where the roots cannot be asked."""
    if not isinstance(requests, Mapping):
        raise TypeError(
            "requests must be a dictionary by root, such as {'u0': request}; got "
            f"{type(requests).__name__}."
        )
    graph.check_names("roots", tuple(requests))
    if not requests:
        raise ValueError("roots is empty: a request is made to at least one node.")
    for root, request in requests.items():
        checks.check_is_request(request)
        if request.data is None:
            raise ValueError(f"The request to {root!r} carries no data.")
        fisher.check_effect(config, request)
    wanted = {root: request.classes for root, request in requests.items()}
    if not checks.is_concrete(forgotten.classes, wanted):
        return
    wanted = {root: np.flatnonzero(each).tolist() for root, each in wanted.items()}
    reach, gone = graph.reach(tuple(requests)), np.asarray(forgotten.classes)
    for place, node in enumerate(graph.nodes):
        lost = np.flatnonzero(gone[place]).tolist()
        known = [label for label in node.classes if label not in lost]
        for label in wanted.get(node.name, ()):
            if label not in known:
                raise ValueError(
                    f"The root {node.name!r} does not know class {label}; its classes "
                    f"are {known}."
                )
        asked = {
            label
            for labels, reaches in zip(wanted.values(), reach[place], strict=True)
            for label in labels
            if reaches
        }
        if config.reinitialise and asked and not set(known) - asked:
            raise ValueError(
                f"{node.name} knows the requested classes alone: nothing would be left."
            )


def check_forget(root: str, request: ForgetRequest, own: Fisher | None) -> None:
    """Raise where a root's forget data, less what it forgot before, are not its own."""
    data: Any = request.data
    if not checks.is_concrete(request):
        return
    if not np.asarray(request.forget.weight).any():
        raise ValueError(
            f"The request to {root!r} names no example that is there (forgotten "
            "before?): the Fisher of nothing says nothing."
        )
    if own is None or own.estimator != "per_example" or not checks.is_concrete(own):
        return
    held, given = float(own.total_weight), float(np.asarray(data.weight).sum())
    # Counts up to 2**24 are exact in float32.
    if given > held:
        raise ValueError(
            f"The request to {root!r} brings {given:g} examples, and its Fisher is of "
            f"{held:g}: give it its own, as plan.request_at does."
        )
