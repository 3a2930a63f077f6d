"""The last k layers of a model, and training them while the others are frozen."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Classifier, Examples, Tap, Variables
from hyperforget_jax.methods.stateless import loss_on
from hyperforget_jax.rivals.freezing import only
from hyperforget_jax.training import loop

__all__ = ["in_last_layers", "train_part"]


def in_last_layers(
    classifier: Classifier, variables: Variables, x: Array, k: int
) -> Any:
    """Mark the parameters of the last ``k`` dense or convolutional layers.

    Layers are counted by their last call, the one that gives the logits last of all.
    Normalisation parameters belong to no layer.

    Args:
        classifier: a model with taps.
        variables: its variables.
        x: inputs, ``[N, ...]``; only shape and dtype are used.
        k: how many layers.

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


def train_part(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    retain: Examples,
    mask: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
) -> tuple[Variables, loop.LoopInfo]:
    """Minimise cross-entropy over the parameters that ``mask`` marks."""

    def loss_fn(key, variables, batches):
        del key  # Evaluation mode draws nothing.
        return loss_on(classifier, variables, batches[0].examples), variables

    return loop.run(
        key,
        loss_fn,
        variables,
        (retain,),
        only(mask, optimizer),
        steps=steps,
        batch_size=batch_size,
    )
