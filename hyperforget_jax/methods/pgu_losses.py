"""The losses of projected-gradient unlearning: a target, and the published one."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.margins import Margins

__all__ = ["published_loss", "target_log_probs", "target_loss"]

# A logit without probability beside any other.
_NOTHING = -1e30


def target_log_probs(
    logits: Array,
    y: Array,
    known: Array,
    margins: Margins,
    is_class: Array,
    *,
    forget_margin: Any,
    shrink: Any,
    temperature: Any,
) -> Array:
    """Estimate log-probabilities of a model that was trained without these examples.

    Forgotten rows should be predicted as held-out rows are: a row whose margin has some
    rank among all training examples' is given the margin of that rank among held-out
    ones, or its own if that is smaller. So hard examples stay hard. A forgotten class's
    label is driven out. What is left goes to the other labels as the model has them.

    Args:
        logits: the model's, ``[F, C]``.
        y: labels, ``[F]``.
        known: margins of these examples when ``margins`` were taken, ``[F]``: earlier
            requests have moved those of today.
        margins: of training and of held-out examples.
        is_class: whether a class is to be forgotten, bool, ``[]``.
        forget_margin: of a label that is driven out.
        shrink: of the other margins, towards undecided: a target should not be sure.
        temperature: of the other labels.

    Returns:
        Float32, ``[F, C]``.
    """
    logits = logits.astype(jnp.float32)
    margin = losses.margin(logits, y)
    wanted = shrink * jnp.interp(known, margins.seen, margins.unseen)
    wanted = jnp.where(is_class, forget_margin, jnp.maximum(wanted, forget_margin))
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

    Bounded below by zero, where its gradient vanishes.

    Args:
        logits: ``[N, C]``.
        targets: log-probabilities, ``[N, C]``.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    terms = jnp.exp(targets) * (targets - log_probs)
    # Of nothing, nothing: the limit of p log p.
    return jnp.sum(jnp.where(jnp.isneginf(targets), 0, terms), axis=-1)


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
