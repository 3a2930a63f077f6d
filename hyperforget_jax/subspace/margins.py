"""How surely a model predicts the labels it saw, and those it did not."""

from typing import NamedTuple

import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Array

__all__ = ["Margins", "margins_of"]

# Fine enough for the few hard examples, on which accuracies turn.
_LEVELS = 1025
# Below any margin: nothing held out is predicted right.
_NEVER = -1e4
# Above any margin but infinite ones.
_SURE = 1e30


class Margins(NamedTuple):
    """Margins, ``log p_y - log(1 - p_y)``, of one model.

    Attributes:
        rows: of each training example, float32, ``[N]``.
        seen: of training examples, at equally spaced quantiles, ascending, ``[1025]``.
        unseen: of held-out examples, likewise; far below zero if there are none, so
            that no label keeps any probability.
        accuracy: on the held-out examples, float32, ``[]``; zero if there are none.
    """

    rows: Array
    seen: Array
    unseen: Array
    accuracy: Array


def margins_of(
    logits: Array,
    y: Array,
    weight: Array,
    held_out: tuple[Array, Array, Array] | None = None,
) -> Margins:
    """Compute margins and their quantiles. A row counts or does not, but not twice.

    Args:
        logits: of training examples, ``[N, C]``.
        y: labels, ``[N]``.
        weight: which of them count, ``[N]``.
        held_out: the same three of held-out examples, or None.
    """
    seen = losses.margin(logits.astype(jnp.float32), y)
    rows = jnp.where(weight > 0, seen, 0)
    unseen = jnp.full(_LEVELS, _NEVER, jnp.float32)
    accuracy = jnp.zeros((), jnp.float32)
    if held_out is not None:
        others, labels, counts = held_out
        there = jnp.any(counts > 0)
        found = _quantiles(losses.margin(others.astype(jnp.float32), labels), counts)
        unseen = jnp.where(there, found, unseen)
        right = (jnp.argmax(others, axis=-1) == labels).astype(jnp.float32)
        accuracy = losses.weighted_mean(right, counts > 0)
    return Margins(rows, _quantiles(seen, weight), unseen, accuracy)


def _quantiles(values: Array, weight: Array) -> Array:
    """``[1025]``, of the rows that count."""
    count = jnp.sum(weight > 0)
    # Finite, since nothing lies between infinities.
    values = jnp.clip(values.astype(jnp.float32), -_SURE, _SURE)
    ascending = jnp.sort(jnp.where(weight > 0, values, jnp.inf))
    row = jnp.arange(values.shape[0])
    # Rows that do not count repeat the largest value, behind the last place.
    among = jnp.where(row < count, ascending, ascending[count - 1])
    places = row / jnp.maximum(count - 1, 1)
    return jnp.interp(jnp.linspace(0, 1, _LEVELS), places, among)
