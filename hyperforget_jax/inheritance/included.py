"""What each node's Fisher is of, and what a request takes out of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import fisher
from hyperforget_jax.base import Array
from hyperforget_jax.fisher import Fisher, FIUnConfig
from hyperforget_jax.inheritance.plans import NetworkData

__all__ = ["Included", "measure_included", "take_out", "without_share"]

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
        place = jnp.minimum(jnp.searchsorted(ids, forget.id), ids.shape[0] - 1)
        there = (ids[place] == forget.id) & (forget.id >= 0) & (forget.weight > 0)
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
