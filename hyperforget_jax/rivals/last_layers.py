"""The last k layers of a model, and training them while the others are frozen."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Access, Array, Classifier, Tap, Unlearner, Variables
from hyperforget_jax.methods.stateless import loss_on, stateless
from hyperforget_jax.rivals.freezing import only
from hyperforget_jax.training.config import FitConfig

__all__ = ["in_last_layers", "training_last"]


def in_last_layers(
    classifier: Classifier, variables: Variables, x: Array, k: int
) -> Any:
    """Mark the parameters of the last ``k`` dense or convolutional layers.

    Layers are counted by their last call, the one that gives the logits last of all.
    Normalisation parameters belong to no layer. Of inputs ``[N, ...]`` only shape and
    dtype are used.

    Returns:
        Like ``params``, with a bool for each leaf.

    Raises:
        ValueError: no taps, or fewer than ``k`` layers.
    """
    if classifier.taps is None:
        raise ValueError(
            f"The classifier ({classifier.description}) has no taps, so its last "
            "layers are not known: make it with hf.from_linen or hf.from_nnx, or let "
            "the function compute its layers with hf.models.dense, by name."
        )
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    shapes = jax.eval_shape(lambda tree: tree, variables)
    found: Mapping[str, tuple[Tap, ...]] = jax.eval_shape(classifier.taps, shapes, row)

    def place(path: str) -> tuple[bool, int]:
        return found[path][-1].gives_logits, found[path][-1].call

    layers = sorted(found, key=place)
    if k > len(layers):
        raise ValueError(
            f"k must be at most the number of dense and convolutional layers, "
            f"{len(layers)}, got {k=}."
        )
    last = layers[-k:]
    return jax.tree.map_with_path(
        # A model that is one layer has no name for it.
        lambda keys, _: any(
            not path or trees.leads_to(path, trees.join(keys)) for path in last
        ),
        variables["params"],
    )


def training_last(
    classifier: Classifier,
    k: int,
    config: FitConfig,
    *,
    anew: bool,
) -> Unlearner:
    """Make an unlearner that fits the last ``k`` layers to the retained examples.

    Args:
        classifier: the model, with taps.
        k: how many layers are trained.
        config: how they are fitted.
        anew: whether these layers are drawn anew first.
    """
    checks.check_sizes(k=k)

    def forget_fn(key, variables, request):
        retain, params = request.retain, variables["params"]
        mask = in_last_layers(classifier, variables, retain.x, k)
        if anew:
            key_init, key = jax.random.split(key)
            fresh = classifier.init(key_init, retain.x)["params"]
            params = jax.tree.map(
                lambda is_last, new, old: new.astype(old.dtype) if is_last else old,
                mask,
                fresh,
                params,
            )
        masked = dataclasses.replace(config, optimizer=only(mask, config.optimizer))
        loss = functools.partial(loss_on, classifier)
        return masked.minimise(key, loss, {**variables, "params": params}, (retain,))

    access = Access(
        unlearn={"retain"}, remains="all layers but k; normalisation statistics"
    )
    return stateless(classifier, forget_fn, access)
