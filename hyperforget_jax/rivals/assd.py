"""ASSD: synaptic dampening whose threshold follows from the forget data's share."""

import jax
import jax.numpy as jnp

from hyperforget_jax import fisher
from hyperforget_jax.base import Array, Classifier, Unlearner
from hyperforget_jax.methods.dampening import dampening

__all__ = ["adaptive_alpha", "assd"]


def assd(
    classifier: Classifier, *, strength: float = 1.0, batch_size: int = 256
) -> Unlearner:
    """Dampen as ``hf.ssd`` does, with :func:`adaptive_alpha` for its threshold.

    So there is no threshold to tune: a fixed share of the parameters is selected, fewer
    of them the fewer examples are to be forgotten. The Fisher is that of single
    examples, where published code squares the mean gradients of minibatches.

    ``init`` reads the training data once. A request reads the forget data alone, and
    takes their share out of the Fisher that is kept.

    Args:
        classifier: the model.
        strength: ``lambda``: a chosen weight keeps ``lambda * F_D / F_f`` of itself;
            published is 1.
        batch_size: rows at once.

    References:
        Schoepf, Foster and Brintrup, Parameter-tuning-free data entry error unlearning
        with adaptive selective synaptic dampening, arXiv 2402.10098, 2024.
    """

    def measure(variables, data):
        return fisher.diagonal(classifier, variables, data, batch_size=batch_size)

    return dampening(
        classifier, measure, adaptive_alpha, strength=strength, batch_size=batch_size
    )


def adaptive_alpha(forget: fisher.Fisher, data: fisher.Fisher) -> Array:
    """Compute the threshold that some percentile of ``F_f / F_D`` lies at.

    It is the percentile ``100 - ln(1 + 100 n_f / n)``, which is 97.6 for a forget set
    of a tenth of the data, and 100 for none. Ratios that are not finite do not count.

    Args:
        forget: ``F_f``, of the forget data, with their total weight ``n_f``.
        data: ``F_D``, of all data, those to be forgotten among them; n.

    Returns:
        ``alpha``, float32, ``[]``.
    """
    pairs = zip(
        jax.tree.leaves(forget.values), jax.tree.leaves(data.values), strict=True
    )
    ratio = jnp.concatenate([(f / d).reshape(-1) for f, d in pairs])
    share = forget.total_weight / jnp.maximum(data.total_weight, 1)
    quantile = 1 - jnp.log1p(100 * share) / 100
    # Infinite where nothing is finite: then nothing is selected.
    alpha = jnp.nanquantile(jnp.where(jnp.isfinite(ratio), ratio, jnp.nan), quantile)
    return jnp.where(jnp.isnan(alpha), jnp.inf, alpha)
