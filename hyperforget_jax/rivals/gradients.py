"""Gradients of the cross-entropy over all of some examples, a few rows at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.microbatch import batch_rows, compensated_sum

__all__ = ["mean_gradient", "present", "sum_of_gradients"]


def sum_of_gradients(
    classifier: Classifier, variables: Variables, data: Examples, batch_size: int
) -> Any:
    """Sum the weighted gradients of the cross-entropy, in evaluation mode.

    Args:
        classifier: the model.
        variables: its variables.
        data: examples, ``[N]``; what rows of weight zero hold is not read.
        batch_size: rows at once.

    Returns:
        Like ``params``, float32.
    """

    def of_batch(rows: Array) -> Any:
        batch = present(data.take(rows))

        def loss(params):
            logits = classifier.apply({**variables, "params": params}, batch.x)
            values = losses.cross_entropy(logits, batch.y).astype(jnp.float32)
            return jnp.sum(batch.weight * values)

        return optax.tree.cast(jax.grad(loss)(variables["params"]), jnp.float32)

    return compensated_sum(of_batch, batch_rows(data.y.shape[0], batch_size))


def mean_gradient(
    classifier: Classifier, variables: Variables, data: Examples, batch_size: int
) -> Any:
    """Average the gradients of the cross-entropy; zero if all weights are zero.

    Arguments as for :func:`sum_of_gradients`.
    """
    total = jnp.maximum(jnp.sum(data.weight), 1).astype(jnp.float32)
    summed = sum_of_gradients(classifier, variables, data, batch_size)
    return jax.tree.map(lambda leaf: leaf / total, summed)


def present(batch: Examples) -> Examples:
    """Blank the inputs of rows that weigh nothing: zero times NaN is NaN."""
    there = (batch.weight > 0).reshape(-1, *[1] * (batch.x.ndim - 1))
    return batch._replace(x=jnp.where(there, batch.x, 0))
