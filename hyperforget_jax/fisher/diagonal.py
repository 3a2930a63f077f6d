"""The diagonal empirical Fisher information, in microbatches."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import losses
from hyperforget_jax.base import Classifier, Examples, Variables

__all__ = ["ESTIMATORS", "diagonal"]

ESTIMATORS = ("per_example", "batch_gradient")


def diagonal(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    *,
    estimator: str = "per_example",
    batch_size: int = 256,
) -> Any:
    r"""Mean squared gradient of the log-likelihood, parameter by parameter.

    .. math:: F_j = \frac{1}{\sum_i w_i} \sum_i w_i
              \left(\frac{\partial \log p(y_i \mid x_i)}{\partial \theta_j}\right)^2

    Args:
        classifier: the model, in evaluation mode.
        variables: its variables; the Fisher is that of ``params``.
        data: examples, ``[N]``; their weights are ``w``.
        estimator: ``"per_example"``, the definition above, exactly; or
            ``"batch_gradient"``, the squared mean gradient of each minibatch in file
            order, averaged over minibatches. The latter is what published tables of
            synaptic dampening were made with; it depends on order and batch size, and
            is there to compare with them. The two are never to be mixed in one ratio.
        batch_size: rows at once; it bounds the memory, and defines the minibatches of
            ``"batch_gradient"``.

    Returns:
        A pytree like ``variables["params"]``, float32, non-negative; zero if all
        weights are zero.

    Raises:
        ValueError: unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}.")
    num_rows = data.y.shape[0]
    batch_size = min(batch_size, num_rows)
    count = -(-num_rows // batch_size)
    rows = jnp.arange(count * batch_size).reshape(count, batch_size)

    def gradient(batch: Examples):
        def loss(params):
            logits = classifier.apply({**variables, "params": params}, batch.x)
            values = losses.cross_entropy(logits, batch.y)
            return losses.weighted_mean(values, batch.weight)

        return jax.grad(loss)(variables["params"])

    def per_example(batch: Examples):
        single = jax.tree.map(lambda leaf: leaf[:, None], batch)
        single = single._replace(weight=jnp.ones_like(single.weight))
        weight = batch.weight.astype(jnp.float32)
        squares = jax.tree.map(
            lambda g: jnp.tensordot(
                weight, jnp.square(g), axes=1, precision=lax.Precision.HIGHEST
            ),
            jax.vmap(gradient)(single),
        )
        return squares, jnp.sum(weight)

    def batch_gradient(batch: Examples):
        there = jnp.any(batch.weight > 0).astype(jnp.float32)
        return jax.tree.map(jnp.square, gradient(batch)), there

    measure = per_example if estimator == "per_example" else batch_gradient

    def accumulate(carry, rows):
        total, lost, mass = carry
        squares, more = measure(data.take(rows))
        # Compensated, so that tens of thousands of small terms do not drift (Kahan).
        added = jax.tree.map(jnp.subtract, squares, lost)
        grown = jax.tree.map(jnp.add, total, added)
        lost = jax.tree.map(lambda g, t, a: (g - t) - a, grown, total, added)
        return (grown, lost, mass + more), None

    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, jnp.float32), variables["params"]
    )
    begun = (zeros, zeros, jnp.zeros((), jnp.float32))
    (total, _, mass), _ = lax.scan(accumulate, begun, rows)
    return jax.tree.map(lambda leaf: leaf / jnp.where(mass > 0, mass, 1), total)
