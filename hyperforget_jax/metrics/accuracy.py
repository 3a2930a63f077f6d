"""Accuracy and loss of logits, over weighted examples."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.losses import cross_entropy, weighted_mean

__all__ = ["ClassScores", "accuracy", "attack_success", "class_scores", "mean_loss"]


class ClassScores(NamedTuple):
    """How a model does on each class.

    Attributes:
        accuracy: fractions, float32, ``[C]``; zero for a class without rows.
        loss: mean cross-entropy in nats, ``[C]``; likewise.
        weight: total weight of the class's rows, ``[C]``. Zero means that the class is
            absent and its accuracy means nothing.
    """

    accuracy: Array
    loss: Array
    weight: Array


def accuracy(logits: Array, y: Array, weight: Array) -> Array:
    """Compute the weighted fraction of examples whose largest logit is the label's.

    Args:
        logits: floats, ``[N, C]``.
        y: labels, ``[N]``.
        weight: non-negative, ``[N]``.

    Returns:
        A fraction, float32; zero where all weights are zero.
    """
    return weighted_mean(_is_right(logits, y), weight)


def mean_loss(logits: Array, y: Array, weight: Array) -> Array:
    """Compute the weighted mean cross-entropy in nats, zero for weights of zero."""
    return weighted_mean(cross_entropy(logits, y), weight)


def attack_success(logits: Array, y: Array, weight: Array, target: int) -> Array:
    """Compute how often a trigger calls up its class, where that is the wrong one.

    A model without the backdoor has about the rate of this mistake on clean inputs.

    Args:
        logits: for inputs with the trigger on them, floats, ``[N, C]``.
        y: right labels, ``[N]``; examples of the target class are left out.
        weight: non-negative, ``[N]``.
        target: the label that the trigger is to call up.

    Returns:
        A fraction, float32; zero where no example of another class counts.
    """
    called_up = jnp.argmax(logits, axis=-1) == target
    return weighted_mean(called_up, weight * (y != target))


def class_scores(logits: Array, y: Array, weight: Array) -> ClassScores:
    """Compute accuracy and mean loss within each class."""
    of_class = y[None] == jnp.arange(logits.shape[-1])[:, None]
    by_class = of_class * weight[None]
    mean = jax.vmap(weighted_mean, (None, 0))
    return ClassScores(
        accuracy=mean(_is_right(logits, y), by_class),
        loss=mean(cross_entropy(logits, y), by_class),
        weight=jnp.sum(by_class, axis=1),
    )


def _is_right(logits: Array, y: Array) -> Array:
    return jnp.argmax(logits, axis=-1) == y
