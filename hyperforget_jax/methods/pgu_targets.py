"""What a model that never saw them would answer to the forgotten, as a guess."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Array

__all__ = ["Margins", "guess", "margins_of", "published_loss", "target_loss"]

# Fine enough for the few hard examples, on which accuracies turn.
_LEVELS = 1025
# Below any margin: nothing held out is answered right.
_NEVER = -1e4


class Margins(NamedTuple):
    """How a model answers what it was trained on, and what it was not.

    Margins are ``log p_y - log(1 - p_y)``, here at equally spaced quantiles, ascending.

    Attributes:
        seen: of training examples, float32, ``[1025]``.
        unseen: of held-out examples, likewise; far below zero if there are none, so
            that no label keeps any probability.
    """

    seen: Array
    unseen: Array


def margins_of(seen: Array, weight: Array, unseen: Array | None) -> Margins:
    """Quantiles of margins.

    Args:
        seen: margins of training examples, ``[N]``.
        weight: which of them count, ``[N]``.
        unseen: margins of held-out examples, ``[M]``, or None.
    """
    levels = jnp.linspace(0, 1, _LEVELS)
    count = jnp.sum(weight > 0)
    ascending = jnp.sort(jnp.where(weight > 0, seen.astype(jnp.float32), jnp.inf))
    places = jnp.arange(seen.shape[0]) / jnp.maximum(count - 1, 1)
    among = jnp.where(
        jnp.arange(seen.shape[0]) < count, ascending, ascending[count - 1]
    )
    of_seen = jnp.interp(levels, places, among)
    if unseen is None:
        return Margins(of_seen, jnp.full(_LEVELS, _NEVER))
    return Margins(of_seen, jnp.quantile(unseen.astype(jnp.float32), levels))


def guess(
    logits: Array,
    y: Array,
    margins: Margins,
    is_class: Array,
    *,
    out: Any,
    shrink: Any,
    temperature: Any,
) -> Array:
    """Log-probabilities that a model trained without these examples might give them.

    Forgotten rows should be answered as held-out rows are: a row whose margin has some
    rank among all training examples' is given the margin of that rank among held-out
    ones, or its own if that is smaller. So hard examples stay hard. A forgotten class's
    label is driven out. What is left goes to the other labels as the model has them.

    Args:
        logits: the model's, ``[F, C]``.
        y: labels, ``[F]``.
        margins: of what the model saw and did not see.
        is_class: whether a class is to be forgotten, bool, ``[]``.
        out: the margin of a label that is driven out.
        shrink: of the other margins, towards undecided: a guess should not be sure.
        temperature: of the other labels.

    Returns:
        Float32, ``[F, C]``.
    """
    logits = logits.astype(jnp.float32)
    margin = losses.margin(logits, y)
    wanted = shrink * jnp.interp(margin, margins.seen, margins.unseen)
    wanted = jnp.minimum(margin, jnp.where(is_class, out, jnp.maximum(wanted, out)))
    is_y = jnp.arange(logits.shape[-1])[None, :] == y[:, None]
    others = jnp.where(is_y, -jnp.inf, logits / temperature)
    others = jax.nn.log_softmax(others, axis=-1)
    left = jax.nn.log_sigmoid(-wanted)[:, None]
    return jnp.where(is_y, jax.nn.log_sigmoid(wanted)[:, None], left + others)


def target_loss(logits: Array, targets: Array) -> Array:
    """Divergence of the answers from the targets, ``KL(target || p)``, nats, ``[N]``.

    Bounded below by zero, where its gradient vanishes.

    Args:
        logits: ``[N, C]``.
        targets: log-probabilities, ``[N, C]``.
    """
    answers = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.sum(jnp.exp(targets) * (targets - answers), axis=-1)


def published_loss(logits: Array, y: Array, offset: Any, entropy: Any) -> Array:
    """``-log(1 + o - p_y) - w H(p)``, as published, ``[N]``.

    The offset bounds it, and takes the gradient away where ``p_y`` is near one.

    Args:
        logits: ``[N, C]``.
        y: labels, ``[N]``.
        offset: ``o``.
        entropy: ``w``.
    """
    logits = logits.astype(jnp.float32)
    answers = jax.nn.log_softmax(logits, axis=-1)
    # 1 - p_y to its own precision: without offset this is the unlikelihood.
    against = jax.nn.sigmoid(-losses.margin(logits, y))
    negative_entropy = jnp.sum(jnp.exp(answers) * answers, axis=-1)
    return -jnp.log(offset + against) + entropy * negative_entropy
