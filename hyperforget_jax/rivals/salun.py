"""SalUn: random labels, learnt by the weights that the forgotten examples move most."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.rivals.freezing import only
from hyperforget_jax.rivals.gradients import sum_of_gradients
from hyperforget_jax.rivals.random_labels import (
    DEFAULT,
    learn_wrong_labels,
    warn_of_wrong_labels,
)
from hyperforget_jax.training.config import FitConfig

__all__ = ["salient", "salun"]


def salun(
    classifier: Classifier,
    *,
    share: float = 0.5,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = DEFAULT[0],
    batch_size: int = DEFAULT[1],
) -> Unlearner:
    """Learn wrong labels of the forgotten as ``random_labels`` does, by a mask.

    Salient are the ``share`` of all parameters whose loss on the forgotten examples has
    the largest gradients, in absolute value, in the model as it is given. The others do
    not move by a bit: in published code before February 2026 momentum and weight decay
    moved them. There labels are drawn anew every epoch, from all classes, the right one
    included, and an epoch goes first through the forgotten and then through the
    retained; here each example has one wrong label, and a step takes both halves.
    Normalisation statistics stay.

    It reads both halves of the data when a request comes. The share is the authors';
    the other defaults are those of ``random_labels``, and not tuned.

    Args:
        classifier: the model.
        share: of the parameters that may move, in (0, 1].
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches of each half.
        batch_size: rows a minibatch, of each half.

    Raises:
        ValueError: ``share`` outside (0, 1].

    References:
        Fan et al., SalUn: empowering machine unlearning via gradient-based weight
        saliency in both image classification and generation, arXiv 2310.12508, 2023.
    """
    if checks.is_concrete(share) and not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share=}.")
    is_default = optimizer is None and (steps, batch_size) == DEFAULT
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        if is_default:
            warn_of_wrong_labels("hf.rivals.salun", request)
        mask = salient(classifier, variables, request.forget, share, batch_size)
        masked = dataclasses.replace(config, optimizer=only(mask, config.optimizer))
        return learn_wrong_labels(key, classifier, variables, request, masked)

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def salient(
    classifier: Classifier,
    variables: Variables,
    forget: Examples,
    share: float | Array,
    batch_size: int,
) -> Any:
    """Mark the parameters with the largest gradients of the mean loss on examples.

    One ranking of all parameters together. Those without any gradient, such as what
    feeds a dead unit, are never marked. In evaluation mode, ``batch_size`` rows at
    once; rows of weight zero may hold anything.

    Returns:
        Like ``params``, bool.
    """
    # A mean's largest gradients are a sum's.
    gradients = sum_of_gradients(classifier, variables, forget, batch_size)
    sizes = jax.tree.map(jnp.abs, gradients)
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(sizes)])
    ranked = jnp.sort(flat)
    # The place of the last one that is marked, from the largest on.
    last = jnp.ceil(jnp.asarray(share) * ranked.size).astype(jnp.int32) - 1
    least = ranked[ranked.size - 1 - jnp.clip(last, 0, ranked.size - 1)]
    return jax.tree.map(lambda leaf: (leaf >= least) & (leaf > 0), sizes)
