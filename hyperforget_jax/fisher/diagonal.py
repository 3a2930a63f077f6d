"""The diagonal Fisher information, in microbatches."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Classifier, Examples, Variables
from hyperforget_jax.fisher.gradients import sum_of_squares
from hyperforget_jax.fisher.information import Fisher
from hyperforget_jax.microbatch import batch_rows, sum_over
from hyperforget_jax.trees import overlay, restrict

__all__ = ["ESTIMATORS", "diagonal"]

ESTIMATORS = ("per_example", "batch_gradient")


def diagonal(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    *,
    estimator: str = "per_example",
    scope: Sequence[str] | None = None,
    batch_size: int = 256,
) -> Fisher:
    r"""Compute the mean squared gradient of the log-likelihood, parameter by parameter.

    .. math:: F_j = \frac{1}{\sum_i w_i} \sum_i w_i
              \left(\frac{\partial \log p(y_i \mid x_i)}{\partial \theta_j}\right)^2

    Where the classifier is ``tapped``, dense layers need no gradient of each example's
    own, and the head alone needs no backward pass; the numbers are the same. In
    evaluation mode an example's logits must not depend on the other rows.

    Args:
        classifier: the model, in evaluation mode.
        variables: its variables; the Fisher is that of ``params``.
        data: examples, ``[N]``; their weights are ``w``. Rows of weight zero may hold
            anything, NaN too.
        estimator: ``"per_example"``, the definition above, exactly; or
            ``"batch_gradient"``, the squared mean gradient of each minibatch in file
            order, averaged over minibatches. The latter is what published tables of
            synaptic dampening were made with; it depends on order and batch size, and
            is there to compare with them. The two are never to be mixed in one ratio.
        scope: paths of the parameters to measure, such as ``("Dense_1",)``; see
            :func:`restrict`. None for all of them.
        batch_size: rows at once; it bounds the memory, which holds as many gradients
            as there are rows, and defines the minibatches of ``"batch_gradient"``.

    Returns:
        The Fisher. Its ``values`` are like ``variables["params"]`` or the part in
        scope; zero if all weights are zero.

    Raises:
        ValueError: unknown estimator, or a scope that leads to no parameter.
    """
    checks.check_sizes(batch_size=batch_size)
    checks.check_one_of("estimator", estimator, ESTIMATORS)
    params = variables["params"]
    part = params if scope is None else restrict(params, scope)
    num_rows = data.y.shape[0]
    rows = batch_rows(num_rows, batch_size)

    def batch_gradient(batch: Examples):
        def loss(part):
            laid = {**variables, "params": overlay(params, part)}
            values = losses.cross_entropy(classifier.apply(laid, batch.x), batch.y)
            return losses.weighted_mean(values, batch.weight)

        gradient = jax.grad(loss)(part)
        return jax.tree.map(lambda leaf: jnp.square(leaf.astype(jnp.float32)), gradient)

    if estimator == "per_example":
        squares = sum_of_squares(classifier, variables, part, data.x)
        total_weight, recorded = jnp.sum(data.weight, dtype=jnp.float32), None
    else:
        squares, recorded = batch_gradient, rows.shape[1]
        counts = (data.weight[jnp.minimum(rows, num_rows - 1)] > 0) & (rows < num_rows)
        total_weight = jnp.sum(jnp.any(counts, axis=1), dtype=jnp.float32)

    scale = jnp.where(total_weight > 0, total_weight, 1)
    sums = sum_over(squares, data, batch_size)
    values = jax.tree.map(lambda leaf: leaf / scale, sums)
    return Fisher(values, total_weight, estimator, recorded)
