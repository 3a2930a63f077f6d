"""What the methods share that spoil some weights, and then fine-tune."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.stateless import loss_on, stateless
from hyperforget_jax.training.config import FitConfig

__all__ = ["restarting"]


def restarting(
    classifier: Classifier,
    spoil: Callable[[Array, Variables, ForgetRequest], tuple[Any, Any]],
    reads: set[str],
    config: FitConfig,
) -> Unlearner:
    """Make an unlearner that spoils weights, then fits the retained examples.

    Args:
        classifier: the model.
        spoil: ``(key, variables, request) -> (params, rates)``: the parameters to start
            from, and by what each one's steps are multiplied, or None.
        reads: what is read when a request comes.
        config: how these are fitted.
    """

    def forget_fn(key, variables, request):
        key_spoil, key_loop = jax.random.split(key)
        params, rates = spoil(key_spoil, variables, request)
        steered = config
        if rates is not None:
            chain = optax.chain(config.optimizer, _scale(rates))
            steered = dataclasses.replace(config, optimizer=chain)
        loss = functools.partial(loss_on, classifier)
        start = {**variables, "params": params}
        return steered.minimise(key_loop, loss, start, (request.retain,))

    access = Access(unlearn=reads, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def _scale(rates: Any) -> optax.GradientTransformation:
    """Multiply the steps and not the gradients, which Adam would divide out again."""

    def scale(updates, _):
        return jax.tree.map(lambda u, r: u * r.astype(u.dtype), updates, rates)

    return optax.stateless(scale)
