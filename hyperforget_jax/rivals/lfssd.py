"""LFSSD: synaptic dampening by how much the outputs depend on each weight."""

import jax
import jax.numpy as jnp

from hyperforget_jax import checks
from hyperforget_jax.base import Classifier, Examples, Unlearner, Variables
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.methods.dampening import dampening
from hyperforget_jax.microbatch import sum_over

__all__ = ["lfssd", "output_sensitivity"]


def lfssd(
    classifier: Classifier,
    *,
    alpha: float | None = None,
    strength: float = 0.55,
    batch_size: int = 256,
) -> Unlearner:
    """Dampen as ``hf.ssd`` does, by importances that need neither loss nor labels.

    The importance of a parameter is its :func:`output_sensitivity`. It is an absolute
    value, where the Fisher is a square: the strength is the square root of that of
    ``hf.ssd``. Published code takes the absolute value of a minibatch's mean, in which
    examples cancel and which depends on their order; this is the mean of the examples'
    own.

    ``init`` reads the inputs of the training data once. A request reads those of the
    forget data alone, and takes their share out of the importances that are kept. A
    share of the data bounds the ratio of importances as it bounds that of Fishers:
    ``alpha >= 1 / share`` selects nothing. A fixed one that does something here ruins
    other networks, so by default it follows from the request.

    Args:
        classifier: the model.
        alpha: selection threshold on the ratio of importances; by default that of
            :func:`hyperforget_jax.methods.dampening.adaptive_alpha`.
        strength: a chosen weight keeps this times the inverse ratio of itself.
        batch_size: rows at once; memory holds as many gradients.

    References:
        Foster et al., Loss-free machine unlearning, arXiv 2402.19308, 2024.
    """

    def measure(variables, data):
        return output_sensitivity(classifier, variables, data, batch_size=batch_size)

    return dampening(
        classifier,
        measure,
        alpha,
        strength=strength,
        batch_size=batch_size,
    )


def output_sensitivity(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    *,
    batch_size: int = 256,
) -> Fisher:
    r"""Compute the mean absolute gradient of the logits' squared norm.

    .. math:: \Omega_j = \frac{1}{\sum_i w_i} \sum_i w_i
              \left| \frac{\partial \lVert z(x_i) \rVert^2}{\partial \theta_j} \right|

    In evaluation mode, ``batch_size`` rows at once. ``w`` are the examples' weights;
    their labels are not read. Rows of weight zero may hold anything, NaN too.

    Returns:
        The importances, as a Fisher of the estimator ``"output_sensitivity"``, which is
        comparable with none of another; zero if all weights are zero.
    """
    checks.check_sizes(batch_size=batch_size)

    def squared_norm(params, row):
        logits = classifier.apply({**variables, "params": params}, row[None])
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return jnp.sum(jnp.square(logits))

    def sizes(batch):
        gradient = jax.vmap(jax.grad(squared_norm), (None, 0))
        weight = batch.weight.astype(jnp.float32)

        def total(leaf):
            size = jnp.abs(leaf.astype(jnp.float32))
            return jnp.tensordot(weight, size, 1, precision="highest")

        return jax.tree.map(total, gradient(variables["params"], batch.x))

    total_weight = jnp.sum(data.weight, dtype=jnp.float32)
    scale = jnp.where(total_weight > 0, total_weight, 1)
    sums = sum_over(sizes, data, batch_size)
    values = jax.tree.map(lambda leaf: leaf / scale, sums)
    return Fisher(values, total_weight, "output_sensitivity", None)
