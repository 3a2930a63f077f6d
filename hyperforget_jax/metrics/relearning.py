"""How fast a model learns again what it was made to forget.

A model that only hides what it knows has it back within a step or two, and a
retrained one takes longer. Steps are counted, with everything else fixed.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.metrics.accuracy import accuracy, mean_loss
from hyperforget_jax.models.classifier import unmasked
from hyperforget_jax.models.predictions import logits

__all__ = [
    "Relearning",
    "first_reached",
    "relearn",
    "relearned",
    "relearning_curve",
    "relearning_target",
]

# One object, so that a compilation that takes it as a static argument is found again.
_OPTIMIZER = optax.adam(1e-3)

# The share of the original's accuracy on the forgotten data that counts as knowing.
_RELEARNED = 0.95

# Accuracies are float32: one that equals the target must not miss it by rounding.
_SLACK = 1e-6


class Relearning(NamedTuple):
    """How long relearning takes.

    Attributes:
        steps: optimiser steps taken, int32, ``[]``.
        censored: whether the target was still not reached after them, bool, ``[]``;
            then the true number is larger than ``steps``.
    """

    steps: Array
    censored: Array


def relearn(
    classifier: Classifier,
    variables: Variables,
    forget: Examples,
    *,
    target_accuracy: float | Array,
    key: Array,
    cap: int = 100,
    batch_size: int = 128,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
) -> Relearning:
    """Count the optimiser steps on the forgotten data until the model knows them.

    The attacker holds the model: a mask over its outputs is dropped first. Then the
    parameters alone are tuned on the forgotten data, in evaluation mode, normalisation
    statistics fixed. Pure; ``vmap`` over ``variables`` gives a population's counts.

    Source: relearn time in Chundawat et al., Zero-shot machine unlearning, arXiv
    2201.05629, 2023; here in steps rather than epochs, and with its cap reported.

    Args:
        classifier: the model.
        variables: its variables, after unlearning.
        forget: the forgotten training examples, ``[F]``; weightless rows are absent.
        target_accuracy: a fraction, on ``forget``.
        key: a typed key, consumed. It fixes the order of the examples by their ids:
            give every model the same one.
        cap: the most steps taken.
        batch_size: rows a step, cyclic over one permutation of the rows that count.
        optimizer: one that reads gradients and parameters alone.
    """
    start, learn = _watched(
        classifier, variables, forget, key, batch_size, cap, optimizer
    )

    def is_ignorant(carry):
        return (carry.step < cap) & (carry.accuracy < target_accuracy - _SLACK)

    end = lax.while_loop(is_ignorant, learn, start)
    return Relearning(end.step, end.accuracy < target_accuracy - _SLACK)


def relearning_curve(
    classifier: Classifier,
    variables: Variables,
    forget: Examples,
    *,
    key: Array,
    cap: int = 100,
    batch_size: int = 128,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
) -> Array:
    """Compute the accuracy before and after each step of :func:`relearn`.

    Fractions, ``[cap + 1]``, that serve any target: what is learned does not depend on
    it. The arguments are :func:`relearn`'s.
    """
    start, learn = _watched(
        classifier, variables, forget, key, batch_size, cap, optimizer
    )

    def body(carry, _):
        after = learn(carry)
        return after, after.accuracy

    _, later = lax.scan(body, start, length=cap)
    return jnp.concatenate([start.accuracy[None], later])


def relearned(
    classifier: Classifier,
    variables: Variables,
    examples: Examples,
    *,
    key: Array,
    steps: int,
    batch_size: int = 128,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
) -> Variables:
    """Return the variables after so many steps of :func:`relearn`, without a mask.

    Args:
        classifier: the model.
        variables: its variables, after unlearning.
        examples: what is learned from, ``[F]``; weightless rows are absent.
        key: as for :func:`relearn`.
        steps: optimiser steps.
        batch_size: likewise.
        optimizer: likewise.
    """
    checks.check_sizes(steps=steps)
    variables = unmasked(variables)
    start, learn = _attack(classifier, variables, examples, key, batch_size, optimizer)
    end = lax.fori_loop(0, steps, lambda _, carry: learn(carry), start)
    return {**variables, "params": end.params}


def first_reached(curve: Array, target_accuracy: float | Array) -> Relearning:
    """Return what :func:`relearn` gives, from ``[..., cap + 1]`` curves."""
    reached = curve >= target_accuracy - _SLACK
    known = jnp.any(reached, axis=-1)
    steps = jnp.where(known, jnp.argmax(reached, axis=-1), curve.shape[-1] - 1)
    return Relearning(steps.astype(jnp.int32), ~known)


def relearning_target(
    classifier: Classifier, original: Variables, forget: Examples
) -> Array:
    """Compute 0.95 times the original's accuracy on the forgotten data."""
    outputs = logits(classifier, original, forget.x)
    return _RELEARNED * accuracy(outputs, forget.y, forget.weight)


class _Tuned(NamedTuple):
    step: Array
    params: Any
    opt_state: optax.OptState


class _Watched(NamedTuple):
    tuned: _Tuned
    accuracy: Array

    @property
    def step(self) -> Array:
        return self.tuned.step


def _watched(classifier, variables, forget, key, batch_size, cap, optimizer):
    """Return the initial carry, and the function that takes a step and measures."""
    checks.check_sizes(cap=cap)
    variables = unmasked(variables)
    start, learn = _attack(classifier, variables, forget, key, batch_size, optimizer)

    def watch(tuned):
        outputs = logits(classifier, {**variables, "params": tuned.params}, forget.x)
        return _Watched(tuned, accuracy(outputs, forget.y, forget.weight))

    return watch(start), lambda carry: watch(learn(carry.tuned))


def _attack(classifier, variables, forget, key, batch_size, optimizer):
    """Return the initial carry, and the function that takes a step."""
    checks.check_sizes(batch_size=batch_size)
    key = as_threefry(key)
    # By id, not by position: padding, or another place in the table, changes nothing.
    places = jax.vmap(lambda id: jax.random.uniform(jax.random.fold_in(key, id)))(
        forget.id
    )
    is_active = forget.weight > 0
    order = jnp.argsort(jnp.where(is_active, places, jnp.inf))
    num_active = jnp.maximum(jnp.sum(is_active), 1)

    def loss(params, batch):
        outputs = classifier.apply({**variables, "params": params}, batch.x)
        return mean_loss(outputs, batch.y, batch.weight)

    def learn(carry):
        step, params, opt_state = carry
        rows = order[(step * batch_size + jnp.arange(batch_size)) % num_active]
        grads = jax.grad(loss)(params, forget.take(rows))
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return _Tuned(step + 1, optax.apply_updates(params, updates), opt_state)

    params = variables["params"]
    return _Tuned(jnp.int32(0), params, optimizer.init(params)), learn
