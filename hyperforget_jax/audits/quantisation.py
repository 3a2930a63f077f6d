"""Whether rounding the parameters brings back what was forgotten."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.chunking import map_members
from hyperforget_jax.losses import margin, weighted_mean
from hyperforget_jax.metrics import accuracy
from hyperforget_jax.models.predictions import logits

__all__ = ["FORMATS", "QuantisedScores", "quantise", "quantised_scores"]

FORMATS = ("bfloat16", "int8")
"""What parameters can be rounded to."""


class QuantisedScores(NamedTuple):
    """What models answer on some examples.

    Attributes:
        accuracy: fractions, float32, ``[P]``.
        phi: mean logit-scaled confidence ``log p_y - log(1 - p_y)``, ``[P]``.
    """

    accuracy: Array
    phi: Array


def quantise(variables: Variables, form: str) -> Variables:
    """Round the parameters, and give them back in their own type.

    ``"bfloat16"`` rounds every parameter. ``"int8"`` rounds kernels alone, to 255 whole
    multiples of one scale for each output channel (the last axis), its largest absolute
    value over 127; parameters of less than two axes, such as biases, stay: they are
    kept in full precision wherever models are served so. Statistics of normalisation
    and a mask over the outputs are no parameters, and stay.

    Args:
        variables: of one model.
        form: one of :data:`FORMATS`.

    Raises:
        ValueError: another format.
    """
    rounded = {"bfloat16": _to_bfloat16, "int8": _to_int8}
    if form not in rounded:
        raise ValueError(f"form must be one of {FORMATS}, got {form!r}.")
    return {**variables, "params": jax.tree.map(rounded[form], variables["params"])}


@functools.partial(jax.jit, static_argnames=("classifier", "form"))
def quantised_scores(
    classifier: Classifier,
    variables: Variables,
    examples: Examples,
    form: str | None = None,
) -> QuantisedScores:
    """Score models on examples after their parameters are rounded.

    An unlearned model differs little from the one it was; where the difference is less
    than a step of the rounding, it is gone, and what was forgotten is back. A mask over
    the outputs is not rounded away: this audit does not see it.

    Source: Zhang et al., Catastrophic failure of LLM unlearning via quantization, arXiv
    2410.16454, 2025.

    Args:
        classifier: the model.
        variables: stacked variables, every leaf ``[P, ...]``.
        examples: what was forgotten, ``[N]``.
        form: one of :data:`FORMATS`; None for the models as they are.
    """

    def score(own, examples):
        own = own if form is None else quantise(own, form)
        outputs = logits(classifier, own, examples.x)
        return QuantisedScores(
            accuracy(outputs, examples.y, examples.weight),
            weighted_mean(margin(outputs, examples.y), examples.weight),
        )

    return map_members(score, variables, examples)


def _to_bfloat16(leaf: Array) -> Array:
    # Not by a cast and back, which XLA is free to leave out.
    return lax.reduce_precision(leaf, exponent_bits=8, mantissa_bits=7)


def _to_int8(leaf: Array) -> Array:
    if leaf.ndim < 2:
        return leaf
    largest = jnp.max(jnp.abs(leaf), axis=tuple(range(leaf.ndim - 1)), keepdims=True)
    scale = jnp.where(largest > 0, largest, 1) / 127
    return jnp.round(leaf / scale) * scale
