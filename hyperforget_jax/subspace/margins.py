"""How surely a model answers what it saw, and what it did not."""

from typing import NamedTuple

import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["Margins", "margins_of"]

# Fine enough for the few hard examples, on which accuracies turn.
_LEVELS = 1025
# Below any margin: nothing held out is answered right.
_NEVER = -1e4


class Margins(NamedTuple):
    """Quantiles of margins, ``log p_y - log(1 - p_y)``, equally spaced and ascending.

    Attributes:
        seen: of training examples, float32, ``[1025]``.
        unseen: of held-out examples, likewise; far below zero if there are none, so
            that no label keeps any probability.
    """

    seen: Array
    unseen: Array


def margins_of(
    seen: Array, weight: Array, unseen: Array | None, unseen_weight: Array | None = None
) -> Margins:
    """The quantiles of a model's margins.

    Args:
        seen: margins of training examples, ``[N]``.
        weight: which of them count, ``[N]``.
        unseen: margins of held-out examples, ``[M]``, or None.
        unseen_weight: which of those count, ``[M]``; by default all.
    """
    of_seen = _quantiles(seen, weight)
    if unseen is None:
        return Margins(of_seen, jnp.full(_LEVELS, _NEVER, jnp.float32))
    if unseen_weight is None:
        unseen_weight = jnp.ones(unseen.shape, jnp.int32)
    return Margins(of_seen, _quantiles(unseen, unseen_weight))


def _quantiles(values: Array, weight: Array) -> Array:
    """``[1025]``, of the rows that count."""
    count = jnp.sum(weight > 0)
    ascending = jnp.sort(jnp.where(weight > 0, values.astype(jnp.float32), jnp.inf))
    row = jnp.arange(values.shape[0])
    # Rows that do not count repeat the largest value, behind the last place.
    among = jnp.where(row < count, ascending, ascending[count - 1])
    places = row / jnp.maximum(count - 1, 1)
    return jnp.interp(jnp.linspace(0, 1, _LEVELS), places, among)
