"""A classifier that computes in bfloat16 and keeps its parameters in float32."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array, Classifier, Variables
from hyperforget_jax.checks import check_is
from hyperforget_jax.models.classifier import keyed

__all__ = ["in_bfloat16"]


def in_bfloat16(classifier: Classifier) -> Classifier:
    """Make a classifier compute in bfloat16, which matrix units are made for.

    Parameters and inputs are rounded where the model is applied; parameters as they are
    kept, their gradients and the logits are float32, and so are all other variables,
    such as the statistics of BatchNorm. Losses, Grams and Fishers are float32 sums of
    what is rounded. A layer that was given a ``dtype`` of its own keeps to that, and
    where a model makes float32 of its inputs, as by a float32 mean that it subtracts,
    what follows is float32: give it inputs that are normalised already. On CPUs it is
    slower, and good for tests alone.

    Args:
        classifier: the model, of float32 parameters. Its variables are this one's, and
            may come from either.

    Returns:
        A classifier; those of equal classifiers are equal.

    Examples:
        >>> import hyperforget_jax as hf
        >>> classifier = hf.models.in_bfloat16(hf.from_linen(hf.models.MLP()))
        >>> classifier.description.endswith("in bfloat16")
        True
    """
    check_is(Classifier, "a Classifier", classifier=classifier)

    def of(function: Any, compute: Any) -> Any:
        if function is None:
            return None
        key = (compute.__name__, function)
        return keyed(functools.partial(compute, function), key)

    return classifier._replace(
        apply=of(classifier.apply, _apply),
        apply_train=of(classifier.apply_train, _apply_train),
        taps=of(classifier.taps, _taps),
        tapped=of(classifier.tapped, _tapped),
        description=f"{classifier.description} in bfloat16",
    )


def _apply(apply, variables: Variables, x: Array) -> Array:
    return _whole(apply(_rounded(variables), _half(x)))


def _apply_train(apply_train, key: Array, variables: Variables, x: Array):
    logits, updated = apply_train(key, _rounded(variables), _half(x))
    # A model gives back what it changed, or with the mask all that it was given.
    return _whole(logits), {**_whole(updated), "params": variables["params"]}


def _taps(taps, variables: Variables, x: Array):
    return _whole(taps(_rounded(variables), _half(x)))


def _tapped(tapped, variables: Variables, x: Array, shifts):
    logits, calls = tapped(_rounded(variables), _half(x), shifts)
    return _whole(logits), _whole(calls)


def _rounded(variables: Variables) -> Variables:
    return {**variables, "params": jax.tree.map(_half, variables["params"])}


def _half(x: Array) -> Array:
    return x.astype(jnp.bfloat16) if jnp.result_type(x) == jnp.float32 else x


def _whole(tree: Any) -> Any:
    def whole(x: Array) -> Array:
        return x.astype(jnp.float32) if jnp.result_type(x) == jnp.bfloat16 else x

    return jax.tree.map(whole, tree)
