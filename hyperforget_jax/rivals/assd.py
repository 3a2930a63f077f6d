"""ASSD: synaptic dampening whose threshold follows from the forget data's share."""

from hyperforget_jax import fisher
from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.methods.dampening import dampening

__all__ = ["assd"]


def assd(
    classifier: Classifier, *, strength: float = 1.0, batch_size: int = 256
) -> Unlearner:
    """Dampen as ``hf.ssd`` does, as it is published with an adaptive threshold.

    The threshold is :func:`hyperforget_jax.methods.dampening.adaptive_alpha`: there is
    none to tune, and the fewer examples are to be forgotten, the fewer parameters are
    selected. The Fisher is that of single examples, where published code squares the
    mean gradients of minibatches. ``hf.ssd`` has this threshold by default, and a
    strength of ours.

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

    return dampening(classifier, measure, strength=strength, batch_size=batch_size)
