"""What projected-gradient unlearning aims at: targets, and losses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import losses
from hyperforget_jax.base import Array
from hyperforget_jax.methods.pgu_config import PGUConfig
from hyperforget_jax.subspace.store import Margins, has_held_out

__all__ = [
    "loss_of",
    "margin_loss",
    "published_loss",
    "target_log_probs",
    "target_loss",
]

# A logit without probability beside any other.
_NOTHING = -1e30
# A margin beyond is one of logits that are masked or infinite, and tells nothing.
_FAR = 1e3


def loss_of(
    config: PGUConfig, y: Array, targets: Array
) -> Callable[[Array, Array], Array]:
    """Return the loss of rows of the forget data, ``(logits, rows) -> [B]``.

    Args:
        config: whose objective it is.
        y: labels of the forget data, ``[F]``.
        targets: of :func:`target_log_probs`, ``[F, C]``.
    """

    def loss(logits: Array, rows: Array) -> Array:
        if config.objective == "targets":
            return target_loss(logits, targets[rows])
        if config.objective == "margins":
            return margin_loss(logits, y[rows], targets[rows])
        others = config.objective == "elsewhere"
        how = config.offset, config.entropy
        return published_loss(logits, y[rows], *how, others=others)

    return loss


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
