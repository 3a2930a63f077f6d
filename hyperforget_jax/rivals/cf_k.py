"""CF-k: train on, without the forgotten, the last k layers alone."""

import optax

from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.rivals.last_layers import training_last
from hyperforget_jax.training.config import FitConfig

__all__ = ["cf_k"]


def cf_k(
    classifier: Classifier,
    *,
    k: int = 1,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 128,
) -> Unlearner:
    """Minimise cross-entropy on the retained examples over the last ``k`` layers.

    Catastrophic forgetting of k layers: what comes before them stays as it is, by a
    bit, and so does whatever it remembers. A layer is a dense or convolutional one,
    where some implementations count blocks of a network. Momentum and weight decay do
    not reach what is frozen, and normalisation parameters and statistics are, too.

    It reads the retained data when a request comes. The defaults are not tuned: those
    of ``hf.finetune``.

    Args:
        classifier: the model, with taps.
        k: how many layers are trained.
        optimizer: any optax optimiser; ``optax.adam(1e-2)`` by default.
        steps: minibatches.
        batch_size: rows a minibatch.

    Raises:
        ValueError: at a request, a model without taps or with fewer than ``k`` layers.

    References:
        Goel et al., Towards adversarial evaluations for inexact machine unlearning,
        arXiv 2201.06640, 2022.
    """
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)
    return training_last(classifier, k, config, anew=False)
