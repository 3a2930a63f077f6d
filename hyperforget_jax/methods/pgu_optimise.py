"""Projected steps on the forget data, in rounds, and the losses they descend."""

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
from hyperforget_jax.subspace.store import Margins, has_held_out
from hyperforget_jax.training import loop
from hyperforget_jax.training.minibatches import active_epoch_length, epoch_length

__all__ = [
    "Optimised",
    "margin_loss",
    "optimise",
    "published_loss",
    "target_log_probs",
    "target_loss",
]

# A logit without probability beside any other.
_NOTHING = -1e30
# A margin beyond is one of logits that are masked or infinite, and tells nothing.
_FAR = 1e3


def target_log_probs(
    logits: Array,
    y: Array,
    known: Array,
    margins: Margins,
    is_class: Array,
    weight: Array,
    *,
    keep_spread: bool,
    forget_margin: Any,
    shrink: Any,
    temperature: Any,
) -> Array:
    """Estimate log-probabilities of a model that was trained without these examples.

    Forgotten rows should be predicted as held-out rows are: a row whose margin has some
    rank among all training examples' is given the margin of that rank among held-out
    ones, or its own if that is smaller. So hard examples stay hard. A forgotten class's
    label is driven out. So are single rows' where no held-out example says what becomes
    of them. What is left goes to the other labels as the model has them.

    Args:
        logits: the model's, ``[F, C]``.
        y: labels, ``[F]``.
        known: margins of these examples when ``margins`` were taken, ``[F]``: earlier
            requests have moved those of today.
        margins: of training and of held-out examples.
        is_class: whether a class is to be forgotten, bool, ``[]``.
        weight: of the examples, ``[F]``.
        keep_spread: whether single rows that are driven out keep their margins'
            distances from each other, with ``forget_margin`` for their mean: models
            without a row find it as hard as others like it, and without a class they
            have no opinion of its rows.
        forget_margin: of a label that is driven out.
        shrink: of the other margins, towards undecided: a target should not be sure.
        temperature: of the other labels.

    Returns:
        Float32, ``[F, C]``.
    """
    logits = logits.astype(jnp.float32)
    margin = losses.margin(logits, y)
    wanted = shrink * jnp.interp(known, margins.seen, margins.unseen)
    wanted = jnp.maximum(wanted, forget_margin)
    if keep_spread:
        tells = jnp.abs(known) < _FAR
        known = jnp.where(tells, known, 0)
        apart = jnp.where(tells, known - losses.weighted_mean(known, weight * tells), 0)
        wanted = jnp.where(has_held_out(margins), wanted, forget_margin + apart)
    wanted = jnp.where(is_class, forget_margin, wanted)
    wanted = jnp.minimum(margin, wanted)
    is_y = jnp.arange(logits.shape[-1])[None, :] == y[:, None]
    # Where the model has none at all, to all alike.
    alone = jnp.all(is_y | jnp.isneginf(logits), axis=-1, keepdims=True)
    others = jnp.where(alone, 0, logits / temperature)
    others = jax.nn.log_softmax(jnp.where(is_y, -jnp.inf, others), axis=-1)
    left = jax.nn.log_sigmoid(-wanted)[:, None]
    return jnp.where(is_y, jax.nn.log_sigmoid(wanted)[:, None], left + others)


def target_loss(logits: Array, targets: Array) -> Array:
    """Compute the divergence from the targets, ``KL(target || p)``, nats, ``[N]``.

    Bounded below by zero, where its gradient vanishes. Targets are log-probabilities,
    ``[N, C]`` as logits are.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    terms = jnp.exp(targets) * (targets - log_probs)
    # Of nothing, nothing: the limit of p log p.
    return jnp.sum(jnp.where(jnp.isneginf(targets), 0, terms), axis=-1)


def margin_loss(logits: Array, y: Array, targets: Array) -> Array:
    """Compute how far margins, and what is left to the other labels, are from targets.

    Of the margin it is Huber's loss: half the square within a nat, and linear beyond.
    The divergence is next to blind there once ``p_y`` is small: whether it is one in a
    thousand or in a million is worth a thousandth of a nat. Of the other labels it is
    the divergence among them.

    Args:
        logits: ``[N, C]``.
        y: labels, ``[N]``.
        targets: log-probabilities, ``[N, C]``.

    Returns:
        Nats, ``[N]``; zero where the targets are met. A label that is masked, or that
        has no other beside it, has no part of the margin's.
    """
    # Finite, though no probability, so that gradients are.
    logits, targets = (
        jnp.maximum(each.astype(jnp.float32), _NOTHING) for each in (logits, targets)
    )
    own, aim = losses.margin(logits, y), losses.margin(targets, y)
    tells = (jnp.abs(own) < _FAR) & (jnp.abs(aim) < _FAR)
    gap = jnp.where(tells, own - aim, 0)
    is_y = jnp.arange(logits.shape[-1])[None, :] == y[:, None]
    found, wanted = (
        jax.nn.log_softmax(jnp.where(is_y, 2 * _NOTHING, each), axis=-1)
        for each in (logits, targets)
    )
    divergence = jnp.sum(jnp.exp(wanted) * (wanted - found), axis=-1)
    return optax.losses.huber_loss(gap) + divergence


def published_loss(
    logits: Array, y: Array, offset: Any, entropy: Any, *, others: bool = False
) -> Array:
    """Compute ``-log(1 + o - p_y) - w H``, as published, ``[N]``.

    The offset bounds it, and takes the gradient away where ``p_y`` is near one.

    Args:
        logits: ``[N, C]``.
        y: labels, ``[N]``.
        offset: ``o``.
        entropy: ``w``.
        others: whether ``H`` is the entropy over the other labels alone (for wrong
            labels, with a negative weight: to be sure of some other one) or over all.
    """
    logits = logits.astype(jnp.float32)
    # log(1 - p_y) keeps its precision where p_y is near one, and has no bound if the
    # offset is zero: then this is the unlikelihood.
    against = jax.nn.log_sigmoid(-losses.margin(logits, y))
    against = jnp.logaddexp(jnp.log(jnp.asarray(offset, jnp.float32)), against)
    is_y = jnp.arange(logits.shape[-1])[None, :] == y[:, None]
    # Finite, though no probability: minus infinity times zero is NaN.
    left_out = (is_y & others) | jnp.isneginf(logits)
    log_probs = jax.nn.log_softmax(jnp.where(left_out, _NOTHING, logits), axis=-1)
    log_probs = jnp.where(left_out, 0, log_probs)
    terms = jnp.where(left_out, 0, jnp.exp(log_probs) * log_probs)
    return -against + entropy * jnp.sum(terms, axis=-1)


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
        right = (jnp.argmax(logits, -1) == forget.y).astype(jnp.float32)
        return losses.weighted_mean(right, forget.weight)

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
