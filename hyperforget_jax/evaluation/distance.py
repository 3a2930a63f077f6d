"""How far two models' outputs lie apart, and a model's from retrained oracles.

Distances are to a model retrained without the forgotten data, never to the original.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.losses import weighted_mean

__all__ = [
    "jensen_shannon",
    "kullback_leibler",
    "mean_distance",
    "output_distance",
]


def jensen_shannon(p_logits: Array, q_logits: Array) -> Array:
    """The Jensen-Shannon divergence of softmax outputs, in nats, ``[N]``.

    ``KL(p||m)/2 + KL(q||m)/2`` with ``m = (p + q)/2``: a sum over classes, in
    ``[0, ln 2]``, one value an example. (Widely copied code takes ``KL(m||p)`` and
    divides by the number of classes.) Finite where a probability rounds to zero.

    Source: Lin, Divergence measures based on the Shannon entropy, IEEE Transactions
    on Information Theory 37, 1991.

    Args:
        p_logits: floats, ``[N, C]``.
        q_logits: floats, ``[N, C]``.
    """
    log_p = jax.nn.log_softmax(p_logits)
    log_q = jax.nn.log_softmax(q_logits)
    total = _divergence_from_middle(log_p, log_q) + _divergence_from_middle(
        log_q, log_p
    )
    # Rounding can leave the range by a few units in the last place.
    return jnp.clip(total / 2, 0, jnp.log(2.0))


def _divergence_from_middle(log_p: Array, log_q: Array) -> Array:
    """``KL(p || (p + q)/2)``, ``[N]``, from log-probabilities."""
    p = jnp.exp(log_p)
    # log(p/m) = -log((1 + q/p)/2), written so that q near p loses no digits. Where q
    # is more than e^80 times p, p itself is below float32 and the cut is not seen.
    gap = jnp.minimum(jnp.where(p > 0, log_q - log_p, 0), 80)
    return jnp.sum(-p * jnp.log1p(jnp.expm1(gap) / 2), axis=-1)


def kullback_leibler(q_logits: Array, p_logits: Array) -> Array:
    """``KL(p || q)`` of softmax outputs, in nats, ``[N]``: how ``q`` surprises ``p``.

    Args:
        q_logits: floats, ``[N, C]``: the model's.
        p_logits: floats, ``[N, C]``: the oracle's.
    """
    log_p, log_q = jax.nn.log_softmax(p_logits), jax.nn.log_softmax(q_logits)
    p = jnp.exp(log_p)
    # Not below zero but for rounding.
    terms = jnp.where(p > 0, p * (jnp.where(p > 0, log_p, 0) - log_q), 0)
    return jnp.maximum(jnp.sum(terms, axis=-1), 0)


def output_distance(p_logits: Array, q_logits: Array) -> Array:
    """The Euclidean distance of softmax outputs, in ``[0, sqrt(2)]``, ``[N]``.

    Its mean over examples is the activation distance of Chundawat et al., Can bad
    teaching induce forgetting?, arXiv 2205.08096, 2023: norms are averaged, not
    their squares.

    Args:
        p_logits: floats, ``[N, C]``.
        q_logits: floats, ``[N, C]``.
    """
    difference = jax.nn.softmax(p_logits) - jax.nn.softmax(q_logits)
    return jnp.linalg.norm(difference, axis=-1)


def mean_distance(
    distance: Callable[[Array, Array], Array],
    logits: Array,
    oracle_logits: Array,
    weight: Array,
) -> Array:
    """A model's mean distance to a population of oracles, a scalar.

    The distance to each oracle is averaged, not the distance to the averaged oracle:
    the average of several models is itself no model that retraining could give.

    Args:
        distance: :func:`jensen_shannon`, :func:`kullback_leibler` or
            :func:`output_distance`.
        logits: the model's, ``[N, C]``.
        oracle_logits: the oracles', ``[R, N, C]``.
        weight: non-negative, ``[N]``.
    """
    distances = jax.vmap(distance, (None, 0))(logits, oracle_logits)
    return jnp.mean(jax.vmap(weighted_mean, (0, None))(distances, weight))
