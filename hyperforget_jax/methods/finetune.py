"""Training on, without the forgotten: the oldest baseline."""

import functools

import optax

from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.methods.stateless import loss_on, optimising

__all__ = ["finetune"]


def finetune(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 128,
) -> Unlearner:
    """Minimise cross-entropy on the retained examples, from the current model on.

    What is forgotten is forgotten by neglect. Normalisation statistics stay. It reads
    the retained data when a request comes. The defaults were chosen by
    ``experiments/tune.py``.

    Args:
        classifier: the model.
        optimizer: any optax optimiser; ``optax.adam(1e-2)`` by default.
        steps: minibatches.
        batch_size: rows a minibatch.
    """
    return optimising(
        classifier,
        functools.partial(loss_on, classifier),
        ("retain",),
        optax.adam(1e-2) if optimizer is None else optimizer,
        steps=steps,
        batch_size=batch_size,
    )
