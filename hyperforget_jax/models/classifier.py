"""A classifier of a model's own functions: with the mask of classes, and comparable."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax.numpy as jnp

from hyperforget_jax.base import OUTPUT_MASK, Array, Classifier, Variables
from hyperforget_jax.models.taps import Marked, tap

__all__ = ["keyed", "make_classifier", "unmasked"]

# Far below any logit a trained model gives, and finite: an infinite loss has no mean.
_MASKED_LOGIT = -1e4


class _Keyed(functools.partial):
    """A function that is equal to others of the same key."""

    key: Hashable

    def __eq__(self, other):
        return isinstance(other, _Keyed) and self.key == other.key

    def __hash__(self):
        return hash(self.key)


def keyed(function: Callable, key: Hashable) -> Any:
    """Make a function equal to others of the same key."""
    made = _Keyed(function)
    made.key = key
    return made


def make_classifier(
    key: Any,
    description: str,
    init: Callable[..., Variables],
    apply: Callable[..., Array],
    apply_train: Callable[..., tuple[Array, Variables]],
    marked: Marked,
    tappable: Marked | None = None,
) -> Classifier:
    """Make a classifier that honours the mask of classes.

    Args:
        key: what decides the functions: classifiers of equal keys are equal.
        description: one line.
        init: as the classifier's.
        apply: likewise, of variables without the mask.
        apply_train: likewise; it need not give the variables that stay.
        marked: ``apply`` with marks on the layers, for ``taps``.
        tappable: likewise, for ``tapped``; None for the same.
    """
    tappable = tappable or marked
    try:
        hash(key)
    except TypeError:  # Such as arrays among a module's fields: equal to itself alone.
        key = object()

    def apply_masked(variables: Variables, x: Array) -> Array:
        return _masked(apply(unmasked(variables), x), variables)

    def apply_train_masked(key: Array, variables: Variables, x: Array):
        logits, updated = apply_train(key, unmasked(variables), x)
        return _masked(logits, variables), {**variables, **updated}

    def taps(variables: Variables, x: Array):
        return tap(marked, unmasked(variables), x, {}, every=True)[1]

    def tapped(variables: Variables, x: Array, shifts):
        logits, calls = tap(tappable, unmasked(variables), x, shifts)
        return _masked(logits, variables), calls

    def named(function: Callable) -> Any:
        return keyed(function, (function.__name__, key))

    return Classifier(
        *map(named, (init, apply_masked, apply_train_masked)),
        taps=named(taps),
        description=description,
        tapped=named(tapped),
    )


def unmasked(variables: Variables) -> Variables:
    """Return the variables without a mask: who holds the model undoes it."""
    return {name: value for name, value in variables.items() if name != OUTPUT_MASK}


def _masked(logits: Array, variables: Variables) -> Array:
    if OUTPUT_MASK not in variables:
        return logits
    return jnp.where(variables[OUTPUT_MASK][None, :], _MASKED_LOGIT, logits)
