"""EU-k: train the last k layers anew, without the forgotten."""

import optax

from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.rivals.last_layers import training_last
from hyperforget_jax.training.config import FitConfig

__all__ = ["eu_k"]


def eu_k(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    k: int = 1,
    batch_size: int = 128,
) -> Unlearner:
    """Train the last ``k`` layers from a fresh start on the retained examples.

    Exact unlearning of k layers, and of nothing before them: these layers stay as they
    are, by a bit. It is what it says only if the k layers get the recipe of the
    original, so the recipe has no defaults here. A layer is a dense or convolutional
    one; normalisation parameters and statistics are frozen with what comes before.

    It reads the retained data when a request comes.

    Args:
        classifier: the model, with taps.
        optimizer: the optimiser that the original was trained with.
        steps: the steps that the original was trained for.
        k: how many layers are trained.
        batch_size: rows a minibatch.

    Raises:
        ValueError: at a request, a model without taps or with fewer than ``k`` layers.

    References:
        Goel et al., Towards adversarial evaluations for inexact machine unlearning,
        arXiv 2201.06640, 2022.
    """
    config = FitConfig(optimizer, steps, batch_size)
    return training_last(classifier, k, config, anew=True)
