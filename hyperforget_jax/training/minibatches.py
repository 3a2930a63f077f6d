"""Which rows each minibatch holds: every member of a training set, every pass."""

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["pass_length", "pass_order"]


def pass_length(num_rows: int, batch_size: int) -> int:
    """Minibatches in one pass over ``num_rows`` rows, the last one filled up."""
    return -(-num_rows // batch_size)


def pass_order(key: Array, weight: Array, length: int) -> Array:
    """The rows of one pass over a training set, in the order of their use.

    A fresh permutation of all rows is walked through, each row counting as often as
    its weight says, and begun anew at its end. So every active row is drawn at least
    ``length // sum(weight)`` times and at most once more a unit of weight. Sampling
    with replacement would leave members never seen, and falsify the labels of a
    membership audit. What is drawn in proportion to weight must not be weighted
    again.

    Args:
        key: a typed key, consumed: one a pass.
        weight: multiplicities, integers, ``[N]``.
        length: how many draws, at least ``N`` for every 0/1-weighted row to be seen.

    Returns:
        Row numbers, int32, ``[length]``; zeros if all weights are zero.
    """
    num_rows = weight.shape[0]
    shuffled = _permutation(key, num_rows)
    # Integers, since a float cumulative sum is a parallel scan whose rounding gives
    # rows of weight zero a chance.
    ends = jnp.cumsum(weight[shuffled].astype(jnp.int32))
    total = jnp.maximum(ends[-1], 1)
    draws = jnp.arange(length, dtype=jnp.int32) % total
    place = jnp.searchsorted(ends, draws, side="right", method="scan")
    return shuffled[jnp.minimum(place, num_rows - 1)]


def _permutation(key: Array, size: int) -> Array:
    """A random permutation of ``range(size)``, int32.

    One sort of single words, random above and the row number below, which XLA:CPU
    does four times faster than the sorting of pairs in ``jax.random.permutation``.
    Rows whose random parts tie keep their order; where ties would be frequent a
    second round, whose ties keep the order of the first, makes up for it.
    """
    low = max(size - 1, 1).bit_length()
    row = jnp.arange(size, dtype=jnp.uint32)
    mask = jnp.uint32((1 << low) - 1)

    def one_round(key):
        words = (jax.random.bits(key, (size,)) & ~mask) | row
        return jnp.sort(words, stable=False) & mask

    if low <= 14:
        return one_round(key).astype(jnp.int32)
    key_first, key_second = jax.random.split(key)
    return one_round(key_first)[one_round(key_second)].astype(jnp.int32)
