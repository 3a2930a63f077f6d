"""Accuracy and loss of logits, over weighted examples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.losses import cross_entropy, weighted_mean

__all__ = ["PerClass", "accuracy", "mean_loss", "per_class_accuracy"]


class PerClass(NamedTuple):
    """Accuracy class by class.

    Attributes:
        accuracy: fractions, float32, ``[C]``; zero where ``count`` is zero.
        count: the examples' total weight in the class, ``[C]``. Zero means that the
            class is absent and its accuracy means nothing.
    """

    accuracy: Array
    count: Array


def accuracy(logits: Array, y: Array, weight: Array) -> Array:
    """The weighted fraction of examples whose largest logit is the label's.

    Args:
        logits: floats, ``[N, C]``.
        y: labels, ``[N]``.
        weight: non-negative, ``[N]``.

    Returns:
        A fraction, float32; zero where all weights are zero.
    """
    return weighted_mean(_is_right(logits, y).astype(jnp.float32), weight)


def mean_loss(logits: Array, y: Array, weight: Array) -> Array:
    """The weighted mean cross-entropy, in nats; zero where all weights are zero.

    Args:
        logits: floats, ``[N, C]``.
        y: labels, ``[N]``.
        weight: non-negative, ``[N]``.
    """
    return weighted_mean(cross_entropy(logits, y), weight)


def per_class_accuracy(logits: Array, y: Array, weight: Array) -> PerClass:
    """The weighted accuracy within each class, and each class's weight.

    Args:
        logits: floats, ``[N, C]``.
        y: labels, ``[N]``.
        weight: non-negative, ``[N]``.
    """
    num_classes = logits.shape[-1]
    right = weight * _is_right(logits, y)
    count = jax.ops.segment_sum(weight, y, num_classes)
    right = jax.ops.segment_sum(right, y, num_classes)
    return PerClass(right / jnp.where(count > 0, count, 1), count)


def _is_right(logits: Array, y: Array) -> Array:
    return jnp.argmax(logits, axis=-1) == y
