"""Choose the rows of each minibatch: every member of a training set, every epoch."""

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["active_epoch_length", "epoch_length", "epoch_order"]

# Up to so many row numbers, of a table of any length, take the low bits of a word.
_LOW_BITS = 14


def epoch_length(num_rows: int, batch_size: int) -> int:
    """Count the minibatches of one epoch of a table, the last one filled up."""
    return -(-num_rows // batch_size)


def active_epoch_length(weight: Array, batch_size: int) -> Array:
    """Count the minibatches of one epoch of the rows that weigh, at least one."""
    active = jnp.sum(weight > 0, dtype=jnp.int32)
    return jnp.maximum(-(-active // batch_size), 1)


def epoch_order(
    key: Array,
    weight: Array,
    num_batches: int,
    batch_size: int,
    used: Array | None = None,
) -> tuple[Array, Array]:
    """Order the rows of every minibatch of one epoch of a table of examples.

    A fresh permutation of the rows, each standing in it as often as its weight says,
    is walked through, and started anew at its end. If it is much longer than the
    epoch, the walk takes long steps. So every active row is drawn at least once if the
    weights sum to no more than the epoch holds, and rows are drawn in proportion to
    their weights in any case: what is drawn so must not be weighted again. Sampling
    with replacement would leave members never seen, and falsify the labels of a
    membership audit.

    Args:
        key: a typed key, consumed: one an epoch.
        weight: multiplicities, integers, ``[N]``.
        num_batches: minibatches in the epoch, as by :func:`epoch_length`.
        batch_size: rows in each.
        used: of how many of the minibatches the epoch consists, int32, ``[]``; None for
            all. If given, the order does not depend on how much padding of weight zero
            follows the rows.

    Returns:
        Row numbers, int32, ``[num_batches, batch_size]``, zeros if all weights are
        zero; and how often the permutation had been gone through before each draw,
        int32, of the same shape.
    """
    key_permutation, key_offset = jax.random.split(key)
    shuffled = _permutation(key_permutation, weight.shape[0], used is not None)
    # Integers, since a float cumulative sum is a parallel scan whose rounding gives
    # rows of weight zero a chance.
    ends = jnp.cumsum(weight[shuffled].astype(jnp.int32))
    total = jnp.maximum(ends[-1], 1)
    length = num_batches * batch_size
    stride = jnp.maximum(total // (length if used is None else used * batch_size), 1)
    offset = jax.random.randint(key_offset, (), 0, total)
    draws = jnp.arange(length, dtype=jnp.int32).reshape(num_batches, batch_size)
    # The sum of two places may be beyond int32, and a place is not.
    place, left = draws * stride % total, total - offset
    place = jnp.where(place < left, place + offset, place - left)
    place = jnp.searchsorted(ends, place, side="right", method="scan")
    rows = shuffled[jnp.minimum(place, weight.shape[0] - 1)]
    return rows, draws * stride // total


def _permutation(key: Array, size: int, is_padded: bool = False) -> Array:
    """Draw a random permutation of ``range(size)``, int32.

    If ``is_padded``, the first rows stand in the same order whatever the size, as long
    as bits are drawn place by place (``jax_threefry_partitionable``, JAX's default).

    One sort of single words, random above and the row number below, which XLA:CPU
    does four times faster than the sorting of pairs in ``jax.random.permutation``.
    Rows whose random parts tie keep their order; where ties would be frequent a
    second round, whose ties keep the order of the first, makes up for it.
    """
    low = max(size - 1, 1).bit_length()
    if is_padded and low > _LOW_BITS:
        # The order of the branch below, ties included, of more rows than it can hold.
        words = jax.random.bits(key, (size,)) >> _LOW_BITS
        return jax.lax.sort((words, jnp.arange(size, dtype=jnp.int32)), num_keys=2)[1]
    if is_padded:
        low = _LOW_BITS
    row = jnp.arange(size, dtype=jnp.uint32)
    mask = jnp.uint32((1 << low) - 1)

    def one_round(key):
        words = (jax.random.bits(key, (size,)) & ~mask) | row
        return jnp.sort(words, stable=False) & mask

    if low <= _LOW_BITS:
        return one_round(key).astype(jnp.int32)
    key_first, key_second = jax.random.split(key)
    return one_round(key_first)[one_round(key_second)].astype(jnp.int32)
