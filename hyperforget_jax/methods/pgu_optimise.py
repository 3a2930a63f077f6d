"""Projected steps on the forget data, in rounds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.methods.pgu_config import PGUConfig
from hyperforget_jax.models import predictions
from hyperforget_jax.subspace.grams import Grams
from hyperforget_jax.subspace.projection import (
    Projector,
    from_coordinates,
    project_gradients,
    scale_by_gram,
    to_coordinates,
)
from hyperforget_jax.training import loop
from hyperforget_jax.training.minibatches import active_epoch_length, epoch_length

__all__ = ["Optimised", "optimise"]


class Optimised(NamedTuple):
    """A model after its rounds of steps.

    Attributes:
        variables: the model's.
        loss: the mean over each round's minibatches, float32, ``[rounds]``; zero of a
            round that was not taken.
        accuracy: before each round and after the last, float32, ``[rounds + 1]``; None
            where it does not decide when to stop.
        rounds: how many were taken, int32, ``[]``.
        failed_at: the step that failed, int32, ``[]``; -1 if none.
    """

    variables: Variables
    loss: Array
    accuracy: Array | None
    rounds: Array
    failed_at: Array


def optimise(
    key: Array,
    classifier: Classifier,
    config: PGUConfig,
    variables: Variables,
    forget: Examples,
    loss: Callable[[Array, Array], Array],
    accuracy_wanted: Array,
    projector: Projector,
    grams: Grams,
) -> Optimised:
    """Take rounds of projected steps, and decide before each whether to stop.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        config: the settings.
        variables: the model's.
        forget: the forget data, ``[F]``.
        loss: ``(logits, rows) -> [B]``, of rows of ``forget``.
        accuracy_wanted: where ``stop="accuracy"`` stops, ``[]``.
        projector: where parameters may move.
        grams: of the forget data.
    """
    start = variables["params"]
    coordinates = config.optimizer == "coordinates"
    rows = jnp.arange(forget.y.shape[0], dtype=jnp.int32)

    def model(trained: Any) -> Variables:
        params = from_coordinates(projector, start, trained) if coordinates else trained
        return {**variables, "params": params}

    def loss_fn(key, trained, batches):
        del key  # Evaluation mode draws nothing.
        batch = batches[0]
        logits = classifier.apply(model(trained["params"]), batch.examples.x)
        values = loss(logits, batch.row)
        return losses.weighted_mean(values, batch.examples.weight), trained

    steps = config.round_steps or epoch_length(rows.size, config.batch_size)
    # An epoch is as long as the rows that count, however many pad them.
    taken: int | Array = steps
    if config.round_steps is None:
        taken = active_epoch_length(forget.weight, config.batch_size)
    last_step = jnp.maximum(config.rounds * taken - 1, 1)
    decay = config.end_rate / config.learning_rate
    optimizer = _optimizer(
        config.optimizer,
        # optax.exponential_decay takes no tracers.
        lambda step: config.learning_rate * decay ** (step / last_step),
        projector,
        grams,
    )
    trained = to_coordinates(projector, start) if coordinates else start
    initial = loop.init({"params": trained}, optimizer)

    decides = config.stop == "accuracy"

    def accuracy_of(state: loop.LoopState) -> Array:
        if not decides:  # To evaluate all forget data takes as long as many steps.
            return jnp.zeros((), jnp.float32)
        logits = predictions.logits(
            classifier,
            model(state.variables["params"]),
            forget.x,
            batch_size=config.batch_size,
        )
        return losses.weighted_mean(logits.argmax(-1) == forget.y, forget.weight)

    def stops(accuracy: Array) -> Array:
        return accuracy <= accuracy_wanted if decides else jnp.zeros((), bool)

    def one_round(carry, number):
        state, going, accuracy, failed_at = carry

        def go(state):
            new, each = loop.run_steps(
                key,
                loss_fn,
                state,
                (forget,),
                optimizer,
                steps=steps,
                batch_size=config.batch_size,
                first_step=number * taken,
                padded=(True,),
                limit=None if config.round_steps else (number + 1) * taken,
            )
            value = jnp.mean(each, where=jnp.arange(steps) < taken)
            return new, value, accuracy_of(new)

        if decides:
            new, value, new_accuracy = lax.cond(
                going,
                go,
                lambda state: (state, jnp.zeros((), jnp.float32), accuracy),
                state,
            )
        else:
            # Under vmap a branch would give every model a copy of the forget data. Of a
            # round that failed nothing is taken below, nor of those that follow.
            new, value, new_accuracy = go(state)
        failed_at = jnp.where(going, new.failed_at, failed_at)
        is_finite, stopped = new.failed_at < 0, stops(new_accuracy)
        # Of the two rounds beside the mark, the nearer one.
        nearer = True
        if decides:
            nearer = jnp.abs(new_accuracy - accuracy_wanted) <= jnp.abs(
                accuracy - accuracy_wanted
            )
        take = going & is_finite & (~stopped | nearer)
        state, accuracy = jax.tree.map(
            lambda new, old: jnp.where(take, new, old),
            (new, new_accuracy),
            (state, accuracy),
        )
        going = going & is_finite & ~stopped
        said = jnp.where(take, value, 0), accuracy, take
        return (state, going, accuracy, failed_at), said

    accuracy = accuracy_of(initial)
    first = initial, ~stops(accuracy), accuracy, initial.failed_at
    (last, *_, failed_at), (values, accuracies, is_taken) = lax.scan(
        one_round, first, jnp.arange(config.rounds, dtype=jnp.int32)
    )
    return Optimised(
        model(last.variables["params"]),
        values,
        jnp.concatenate([accuracy[None], accuracies]) if decides else None,
        jnp.sum(is_taken, dtype=jnp.int32),
        failed_at,
    )


def _optimizer(
    name: str,
    rate: optax.Schedule,
    projector: Projector,
    grams: Grams,
) -> optax.GradientTransformation:
    if name == "coordinates":
        return optax.adam(rate)
    project = project_gradients(projector)
    if name == "adam":
        # Before Adam too, lest its second moments be those of directions thrown away.
        return optax.chain(project, optax.adam(rate), project)
    if name == "sgd":
        return optax.chain(optax.sgd(rate), project)
    return optax.chain(optax.sgd(rate), scale_by_gram(projector, grams), project)
