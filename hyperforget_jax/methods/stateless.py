"""What the methods share that prepare nothing: a model goes in, a model comes out."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import optax

from hyperforget_jax import losses
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.change import Change
from hyperforget_jax.methods.keeping import keeping
from hyperforget_jax.training import loop
from hyperforget_jax.training.config import FitConfig

__all__ = [
    "ModelInfo",
    "ModelState",
    "OptimisationInfo",
    "loss_on",
    "optimising",
    "stateless",
]


class ModelState(NamedTuple):
    """A model, and what it has forgotten.

    Attributes:
        variables: the current model's variables.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    forgotten: Forgotten


class ModelInfo(NamedTuple):
    """How a request went.

    Attributes:
        refused: how many rows were asked for that ``init`` was not given: they are
            neither forgotten nor retained, int32, ``[]``.
        change: how much the model was changed.
    """

    refused: Array
    change: Change


class OptimisationInfo(NamedTuple):
    """How a request went that was answered by optimisation.

    Attributes:
        loss: the loss before each step, ``[steps]``.
        failed_at: the step whose loss or update was not finite, int32, ``[]``; -1 if
            none. From there on the model stays as it was.
        refused: as in :class:`ModelInfo`.
        change: how much the model was changed.
    """

    loss: Array
    failed_at: Array
    refused: Array
    change: Change


def stateless(
    classifier: Classifier,
    forget_fn: Callable[
        [Array, Variables, ForgetRequest], tuple[Variables, loop.LoopInfo | None]
    ],
    access: Access,
) -> Unlearner:
    """Make an unlearner that prepares nothing but the memory of what it forgot."""

    def answer(key, variables, request):
        variables, details = forget_fn(key, variables, request)
        if details is None:
            return variables, (), ModelInfo
        return variables, (), functools.partial(OptimisationInfo, *details)

    return keeping(
        classifier, ModelState, lambda variables, data: (variables,), answer, access
    )


def optimising(
    classifier: Classifier,
    loss: Callable[..., Array],
    reads: tuple[str, ...],
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    notice: Callable[[ForgetRequest], None] = lambda request: None,
) -> Unlearner:
    """Make an unlearner that takes optimiser steps on the model at hand.

    Args:
        classifier: the model.
        loss: ``(variables, one minibatch for each of reads) -> scalar``.
        reads: of ``"retain"`` and ``"forget"``, in the order of the minibatches.
        optimizer: any optax optimiser.
        steps: minibatches.
        batch_size: rows a minibatch.
        notice: what is to look at the request beforehand, such as a warning.
    """
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        if "forget" in reads:
            notice(request)
        sources = tuple(getattr(request, half) for half in reads)
        padded = tuple(half == "forget" for half in reads)
        return config.minimise(key, loss, variables, sources, padded)

    access = Access(unlearn=set(reads), remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def loss_on(
    classifier: Classifier,
    variables: Variables,
    examples: Examples,
    loss: Callable[[Array, Array], Array] = losses.cross_entropy,
) -> Array:
    """Compute the mean loss of a batch in evaluation mode: statistics stay."""
    values = loss(classifier.apply(variables, examples.x), examples.y)
    return losses.weighted_mean(values, examples.weight)
