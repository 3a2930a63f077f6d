"""Sums over many examples, a few at a time, without drift."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array, Examples

__all__ = ["batch_rows", "compensated_sum", "sum_over"]


def batch_rows(num_rows: int, batch_size: int) -> Array:
    """Return the row numbers of every batch, int32, ``[ceil(N / B), B]``.

    ``B = min(batch_size, N)``. What fills up the last batch is out of range, to which
    ``Examples.take`` gives the weight zero.
    """
    size = min(batch_size, num_rows)
    count = -(-num_rows // size)
    return jnp.arange(count * size).reshape(count, size)


def compensated_sum(
    term: Callable[[Any], Any],
    steps: Any,
    counts: Callable[[Any], Array] | None = None,
) -> Any:
    """Sum the terms, trees of float32 arrays, of all steps, leaves ``[S, ...]``.

    Compensated (Kahan), so that tens of thousands of small terms do not drift, and
    differences of large sums keep their digits.

    Args:
        term: of one step.
        steps: stacked.
        counts: which steps to take, bool, ``[]``: the terms of others are not computed,
            but under ``vmap`` over what decides it. None for all.
    """

    first = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), steps
    )
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(term, first)
    )

    def add(carry, step):
        total, lost = carry
        if counts is None:
            found = term(step)
        else:
            found = lax.cond(counts(step), term, lambda _: zeros, step)
        added = jax.tree.map(jnp.subtract, found, lost)
        grown = jax.tree.map(jnp.add, total, added)
        lost = jax.tree.map(lambda g, t, a: (g - t) - a, grown, total, added)
        return (grown, lost), None

    return lax.scan(add, (zeros, zeros), steps)[0][0]


def sum_over(term: Callable[[Examples], Any], data: Examples, batch_size: int) -> Any:
    """Sum the terms, trees of float32 arrays, of all minibatches of some examples.

    Rows of weight zero come as copies of one that counts, and a minibatch of nothing
    else is left out: what they hold would reach gradients if it is not finite. A loss
    may be chosen by weight, but backward through a model zero times NaN is NaN.

    Args:
        term: of one minibatch, by its weights.
        data: examples, ``[N]``.
        batch_size: rows at once.
    """

    def of_batch(rows):
        batch = data.take(rows)
        counts = batch.weight > 0
        wide = counts.reshape(-1, *[1] * (batch.x.ndim - 1))
        x = jnp.where(wide, batch.x, batch.x[jnp.argmax(counts)][None])
        return term(batch._replace(x=x))

    def counts(rows):
        return jnp.any(data.take(rows).weight > 0)

    return compensated_sum(of_batch, batch_rows(data.y.shape[0], batch_size), counts)
