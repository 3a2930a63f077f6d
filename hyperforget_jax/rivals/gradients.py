"""Gradients of the cross-entropy over all of some examples, a few rows at a time."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Classifier, Examples, Variables
from hyperforget_jax.microbatch import sum_over

__all__ = ["at_least_single", "mean_gradient", "sum_of_gradients"]


def sum_of_gradients(
    classifier: Classifier, variables: Variables, data: Examples, batch_size: int
) -> Any:
    """Sum the weighted gradients of the cross-entropy, in evaluation mode.

    Like ``params``, at least float32. What rows of weight zero hold is not read;
    ``batch_size`` rows are taken at once.
    """

    def of_batch(batch: Examples) -> Any:
        def loss(params):
            logits = classifier.apply({**variables, "params": params}, batch.x)
            values = at_least_single(losses.cross_entropy(logits, batch.y))
            return jnp.sum(batch.weight * values)

        return at_least_single(jax.grad(loss)(variables["params"]))

    return sum_over(of_batch, data, batch_size)


def mean_gradient(
    classifier: Classifier, variables: Variables, data: Examples, batch_size: int
) -> Any:
    """Average the gradients of the cross-entropy; zero if all weights are zero.

    Arguments as for :func:`sum_of_gradients`.
    """
    total = jnp.maximum(jnp.sum(data.weight), 1).astype(jnp.float32)
    summed = sum_of_gradients(classifier, variables, data, batch_size)
    return jax.tree.map(lambda leaf: leaf / total, summed)


def at_least_single(tree: Any) -> Any:
    """Widen leaves of half precision to float32."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), tree
    )
