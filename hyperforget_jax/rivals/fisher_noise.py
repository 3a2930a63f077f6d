"""Fisher noise: scrub what the retained data do not pin down."""

import jax
import jax.numpy as jnp

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.stateless import stateless

__all__ = ["fisher_noise"]

# Below this a Fisher counts as this: the noise would have no bound.
_LEAST = 1e-3


def fisher_noise(
    classifier: Classifier, *, alpha: float = 1e-6, batch_size: int = 256
) -> Unlearner:
    r"""Add normal noise to each parameter, less where the retained data need it.

    .. math:: \theta_j \leftarrow \theta_j + \sqrt{\alpha / \max(F_j, 10^{-3})}\, n_j

    ``F`` is the diagonal Fisher of the retained data, of single examples and their
    labels, at the model as it is. Published code squares gradients of minibatches, has
    ten times the noise in every tensor with an axis of ten, in biases and in
    normalisation, and for two sizes of forget sets redraws a class's outputs: none of
    this is here, since it depends on numbers that have no meaning for the data.

    It reads the retained data when a request comes. The bound is published; ``alpha``
    is not tuned.

    Args:
        classifier: the model.
        alpha: how much noise: the variance where the Fisher is one.
        batch_size: rows at once.

    References:
        Golatkar, Achille and Soatto, Eternal sunshine of the spotless net: selective
        forgetting in deep networks, arXiv 1911.04933, 2020.
    """
    checks.check_positive(alpha=alpha)
    checks.check_sizes(batch_size=batch_size)

    def forget_fn(key, variables, request):
        params = variables["params"]
        retained = fisher.diagonal(
            classifier, variables, request.retain, batch_size=batch_size
        )
        leaves, structure = jax.tree.flatten(params)
        keys = structure.unflatten(list(jax.random.split(key, len(leaves))))

        def scrub(key, leaf, values):
            deviation = jnp.sqrt(alpha / jnp.maximum(values, _LEAST))
            noise = deviation * jax.random.normal(key, leaf.shape)
            return leaf + noise.astype(leaf.dtype)

        noisy = jax.tree.map(scrub, keys, params, retained.values)
        return {**variables, "params": noisy}, None

    access = Access(unlearn={"retain"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)
