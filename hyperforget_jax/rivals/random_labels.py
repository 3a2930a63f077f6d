"""Random labels: train on, the forgotten examples with labels that are wrong."""

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.defaults import warn_of_driven_out
from hyperforget_jax.methods.stateless import loss_on, stateless
from hyperforget_jax.training import loop
from hyperforget_jax.training.config import FitConfig

__all__ = [
    "DEFAULT",
    "learn_wrong_labels",
    "random_labels",
    "warn_of_wrong_labels",
    "wrong_labels",
]

DEFAULT = 100, 128
"""Steps, and rows a minibatch."""


def random_labels(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = DEFAULT[0],
    batch_size: int = DEFAULT[1],
) -> Unlearner:
    """Minimise cross-entropy on retained labels and on wrong ones of the forgotten.

    Each forgotten example is given one label, drawn once from all others; a step takes
    a minibatch of either half, and each half has the same weight. Amnesiac unlearning
    as it is usually run, and the label game of SalUn without its mask (which draws anew
    every epoch, the right label included: that teaches what is to be forgotten).

    It reads both halves of the data when a request comes.

    Args:
        classifier: the model.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches of each half.
        batch_size: rows a minibatch, of each half.

    References:
        Graves, Nagisetty and Ganesh, Amnesiac machine learning, arXiv 2010.10981, 2021.
    """
    is_default = optimizer is None and (steps, batch_size) == DEFAULT
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        if is_default:
            warn_of_wrong_labels("hf.rivals.random_labels", request)
        return learn_wrong_labels(key, classifier, variables, request, config)

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def learn_wrong_labels(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    config: FitConfig,
) -> tuple[Variables, loop.LoopInfo]:
    """Train as :func:`random_labels` does, by any optimiser."""
    key_labels, key_loop = jax.random.split(key)
    forget = request.forget
    wrong = wrong_labels(key_labels, forget.y, request.classes.size)

    def loss(variables, *halves):
        kept, gone = (loss_on(classifier, variables, half) for half in halves)
        return (kept + gone) / 2

    sources = request.retain, forget._replace(y=wrong)
    return config.minimise(key_loop, loss, variables, sources, (False, True))


def wrong_labels(key: Array, y: Array, num_classes: int) -> Array:
    """Draw a label for each example from all but its own; both int32, ``[N]``."""
    # One draw a row by its place: padding behind the rows changes no label.
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(y.size))
    shift = jax.vmap(lambda one: jax.random.randint(one, (), 1, num_classes))(keys)
    return ((y + shift) % num_classes).astype(y.dtype)


def warn_of_wrong_labels(method: str, request: ForgetRequest) -> None:
    """Warn of right labels that are driven out, as :func:`random_labels` does."""
    assert request.data is not None  # Both halves are read.
    warn_of_driven_out(
        method,
        request.classes,
        request.forget,
        request.data.weight,
        "Take fewer steps, or a method that has no wrong labels",
    )
