"""How much of a forgotten class comes back from a few examples of it."""

import functools

import jax
import jax.numpy as jnp

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.chunking import map_members, shapes_of_one
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.metrics import accuracy, relearned
from hyperforget_jax.models.predictions import logits

__all__ = ["draw_by_class", "few_shot_relearning"]


@functools.partial(jax.jit, static_argnames=("count", "num_classes"))
def draw_by_class(
    key: Array, examples: Examples, count: int, num_classes: int
) -> Examples:
    """Draw examples of every class without replacement, by their ids.

    Args:
        key: a typed key, consumed.
        examples: ``[N]``; weightless rows are absent.
        count: the most of a class.
        num_classes: C.

    Returns:
        ``[C * count]`` examples of weight one, or zero where a class has too few.
    """
    checks.check_sizes(count=count, num_classes=num_classes)
    key = as_threefry(key)
    places = jax.vmap(lambda id: jax.random.uniform(jax.random.fold_in(key, id)))(
        examples.id
    )
    count = min(count, places.shape[0])

    def of_class(label):
        is_there = (examples.weight > 0) & (examples.y == label)
        order = jnp.argsort(jnp.where(is_there, places, jnp.inf))[:count]
        return order, is_there[order]

    rows, there = jax.vmap(of_class)(jnp.arange(num_classes))
    drawn = examples.take(rows.reshape(-1))
    return drawn._replace(weight=there.reshape(-1).astype(jnp.int32))


@functools.partial(jax.jit, static_argnames=("classifier", "shots", "steps"))
def few_shot_relearning(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    forget: Examples,
    retain: Examples,
    held_out: Examples,
    *,
    shots: int = 5,
    steps: int = 30,
) -> Array:
    """Compute the accuracy on held-out examples after learning from a few forgotten.

    An attacker has a few examples of every class, of the forgotten ones too, and tunes
    the parameters on all of them at once: learning the forgotten ones alone, every
    model soon answers nothing else. A mask over the outputs is dropped first. What a
    retrained model reaches is what the examples themselves teach; what an unlearned one
    reaches beyond was left in its weights. The attack is :func:`metrics.relearned`.

    Source: our own reading of few-shot relearning. Relearn time is in Chundawat et al.,
    Zero-shot machine unlearning, arXiv 2201.05629, 2023.

    Args:
        key: a typed key, consumed. The shots of the i-th model are the same in every
            population of a key.
        classifier: the model.
        variables: stacked variables, every leaf ``[P, ...]``.
        forget: forgotten training examples, ``[F]``.
        retain: training examples that stay, ``[N]``.
        held_out: examples of the forgotten kind, of no model's training, ``[M]``.
        shots: examples of each class, from ``forget`` and from ``retain``.
        steps: optimiser steps.

    Returns:
        Fractions of ``held_out``, float32, ``[P]``.
    """
    key_shots, key_order = jax.random.split(as_threefry(key))
    own = shapes_of_one(variables)
    num_classes = jax.eval_shape(classifier.apply, own, forget.x).shape[1]

    def attack(member, forget, retain, held_out):
        own, key_own = member
        parts = [
            draw_by_class(key_own, half, shots, num_classes)
            for half in (forget, retain)
        ]
        learned = relearned(
            classifier,
            own,
            jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts),
            key=key_order,
            steps=steps,
            # Every step sees all of them; of requests for rows most of them, in turn.
            batch_size=num_classes * shots,
        )
        outputs = logits(classifier, learned, held_out.x)
        return accuracy(outputs, held_out.y, held_out.weight)

    members = jax.tree.leaves(variables)[0].shape[0]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key_shots, jnp.arange(members))
    return map_members(attack, (variables, keys), forget, retain, held_out)
