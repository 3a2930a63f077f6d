"""Steps on the forget data in rounds, each of which is looked at before the next."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import losses, subspace
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.methods.pgu_recipe import Recipe
from hyperforget_jax.methods.pgu_targets import guess, published_loss, target_loss
from hyperforget_jax.models import predictions
from hyperforget_jax.subspace import Grams, Subspace
from hyperforget_jax.subspace.margins import Margins
from hyperforget_jax.subspace.projection import (
    by_room,
    from_coordinates,
    to_coordinates,
)
from hyperforget_jax.training import loop
from hyperforget_jax.training.minibatches import active_epoch_length, epoch_length

__all__ = ["descend_in_rounds"]


def descend_in_rounds(
    key: Array,
    classifier: Classifier,
    how: Recipe,
    variables: Variables,
    forget: Examples,
    is_class: Array,
    known: Array,
    margins: Margins,
    forgotten: Grams,
    room: Subspace,
):
    """Rounds of steps, each looked at before the next.

    Returns:
        The variables, loss and forget accuracy by round, the number of rounds, and
        the step that failed.
    """
    start = variables["params"]

    def forward(variables: Variables) -> Array:
        return predictions.logits(
            classifier, variables, forget.x, batch_size=how.batch_size
        )

    targets = guess(
        forward(variables),
        forget.y,
        known,
        margins,
        is_class,
        out=how.out,
        shrink=how.shrink,
        temperature=how.temperature,
    )
    every_row = jnp.arange(forget.id.shape[0], dtype=jnp.int32)
    accuracy_wanted = jnp.where(is_class, 0, margins.accuracy)

    def loss(logits: Array, y: Array, row: Array) -> Array:
        if how.objective == "targets":
            return target_loss(logits, targets[row])
        others = how.objective == "elsewhere"
        return published_loss(logits, y, how.offset, how.entropy, others=others)

    def model(trained: Any) -> Variables:
        if how.optimizer == "coordinates":
            trained = from_coordinates(room, start, trained)
        return {**variables, "params": trained}

    def loss_fn(key, trained, batches):
        del key  # Evaluation mode draws nothing.
        examples = batches[0].examples
        logits = classifier.apply(model(trained["params"]), examples.x)
        values = loss(logits, examples.y, batches[0].row)
        return losses.weighted_mean(values, examples.weight), trained

    steps = how.round_steps or epoch_length(forget.y.shape[0], how.batch_size)
    # A pass is as long as the rows that count, however many pad them.
    taken: int | Array = steps
    if how.round_steps is None:
        taken = active_epoch_length(forget.weight, how.batch_size)
    last_step = jnp.maximum(how.rounds * taken - 1, 1)

    def rate(step):  # optax.exponential_decay takes no tracers.
        return how.learning_rate * (how.end_rate / how.learning_rate) ** (
            step / last_step
        )

    optimizer = _optimizer(how.optimizer, rate, room, forgotten)
    trained = start
    if how.optimizer == "coordinates":
        trained = to_coordinates(room, start)
    begun = loop.init({"params": trained}, optimizer)

    def look(state: loop.LoopState) -> tuple[Array, Array]:
        logits = forward(model(state.variables["params"]))
        right = (jnp.argmax(logits, -1) == forget.y).astype(jnp.float32)
        return (
            losses.weighted_mean(loss(logits, forget.y, every_row), forget.weight),
            losses.weighted_mean(right, forget.weight),
        )

    def done(accuracy: Array) -> Array:
        if how.stop == "accuracy":
            return accuracy <= accuracy_wanted
        return jnp.zeros((), bool)

    def one_round(carry, number):
        state, going, value, accuracy, failed_at = carry

        def go(state):
            new, _ = loop.run_steps(
                key,
                loss_fn,
                state,
                (forget,),
                optimizer,
                steps=steps,
                batch_size=how.batch_size,
                first_step=number * taken,
                padded=(True,),
                limit=None if how.round_steps else (number + 1) * taken,
            )
            return new, *look(new)

        def stay(state):
            return state, value, accuracy

        new, new_value, new_accuracy = lax.cond(going, go, stay, state)
        failed_at = jnp.where(going, new.failed_at, failed_at)
        is_finite = new.failed_at < 0
        stopped = done(new_accuracy)
        # Of the two rounds beside the mark, the nearer one.
        nearer = True
        if how.stop == "accuracy":
            nearer = jnp.abs(new_accuracy - accuracy_wanted) <= jnp.abs(
                accuracy - accuracy_wanted
            )
        take = going & is_finite & (~stopped | nearer)
        state, value, accuracy = jax.tree.map(
            lambda new, old: jnp.where(take, new, old),
            (new, new_value, new_accuracy),
            (state, value, accuracy),
        )
        going = going & is_finite & ~stopped
        return (state, going, value, accuracy, failed_at), (value, accuracy, take)

    value, accuracy = look(begun)
    first = begun, ~done(accuracy), value, accuracy, begun.failed_at
    (last, *_, failed_at), (values, accuracies, taken) = lax.scan(
        one_round, first, jnp.arange(how.rounds, dtype=jnp.int32)
    )
    curves = (
        jnp.concatenate([value[None], values]),
        jnp.concatenate([accuracy[None], accuracies]),
    )
    changed = model(last.variables["params"])
    return changed, curves, jnp.sum(taken, dtype=jnp.int32), failed_at


def _optimizer(
    name: str, rate: Any, room: Subspace, forgotten: Grams
) -> optax.GradientTransformation:
    if name == "coordinates":
        return optax.adam(rate)
    projection = subspace.project_out(room)
    if name == "adam":
        # Before Adam too, lest its second moments be those of directions thrown away.
        return optax.chain(projection, optax.adam(rate), projection)
    if name == "sgd":
        return optax.chain(optax.sgd(rate), projection)
    return optax.chain(optax.sgd(rate), by_room(room, forgotten), projection)
