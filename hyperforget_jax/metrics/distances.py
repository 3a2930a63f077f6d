"""How far apart two models' softmax outputs are, example by example.

What a method should reach is a model retrained without the forgotten data, never the
original.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax.base import Array
from hyperforget_jax.losses import weighted_mean

__all__ = [
    "jensen_shannon",
    "kullback_leibler",
    "mean_distance",
    "output_distance",
    "pairwise_distances",
]

Distance = Callable[[Array, Array], Array]
"""``(model's logits [N, C], reference's logits [N, C]) -> [N]``."""


def jensen_shannon(logits: Array, reference_logits: Array) -> Array:
    """Compute the Jensen-Shannon divergence of softmax outputs, in nats, ``[N]``.

    ``KL(p||m)/2 + KL(q||m)/2`` with ``m = (p + q)/2``: a sum over classes, in
    ``[0, ln 2]``, one value an example. (Widely copied code takes ``KL(m||p)`` and
    divides by the number of classes.) Finite where a probability rounds to zero.

    Source: Lin, Divergence measures based on the Shannon entropy, IEEE Transactions
    on Information Theory 37, 1991.

    Args:
        logits: a model's, ``[N, C]``.
        reference_logits: another one's, ``[N, C]``.
    """
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference_logits)
    total = _divergence_from_middle(log_p, log_q) + _divergence_from_middle(
        log_q, log_p
    )
    # Rounding can leave the range by a few units in the last place.
    return jnp.clip(total / 2, 0, jnp.log(2.0))


def _divergence_from_middle(log_p: Array, log_q: Array) -> Array:
    """Compute ``KL(p || (p + q)/2)``, ``[N]``, from log-probabilities."""
    p = jnp.exp(log_p)
    # log(p/m) = -log((1 + q/p)/2), written so that q near p loses no digits. Where q
    # is more than e^80 times p, p itself is below float32 and the cut is not seen.
    gap = jnp.minimum(jnp.where(p > 0, log_q - log_p, 0), 80)
    return jnp.sum(-p * jnp.log1p(jnp.expm1(gap) / 2), axis=-1)


def kullback_leibler(logits: Array, reference_logits: Array) -> Array:
    """Compute ``KL(reference || model)`` of softmax outputs, in nats, ``[N]``."""
    p = jax.nn.softmax(reference_logits)
    # What is impossible to the reference costs nothing, even where log q is infinite.
    log_q = jnp.where(p > 0, jax.nn.log_softmax(logits), 0)
    # Not below zero but for rounding.
    return jnp.maximum(optax.losses.kl_divergence(log_q, p), 0)


def output_distance(logits: Array, reference_logits: Array) -> Array:
    """Compute the Euclidean distance of softmax outputs, in ``[0, sqrt(2)]``, ``[N]``.

    Its mean over examples is the activation distance of Chundawat et al., Can bad
    teaching induce forgetting?, arXiv 2205.08096, 2023: norms are averaged, not
    their squares.
    """
    difference = jax.nn.softmax(logits) - jax.nn.softmax(reference_logits)
    return jnp.linalg.norm(difference, axis=-1)


def mean_distance(
    distance: Distance, logits: Array, reference_logits: Array, weight: Array
) -> Array:
    """Compute a model's mean distance to several others, a scalar.

    The distance to each is averaged, not the distance to their average: the average of
    several models is itself no model that retraining could give.

    Args:
        distance: :func:`jensen_shannon`, :func:`kullback_leibler` or
            :func:`output_distance`.
        logits: the model's, ``[N, C]``.
        reference_logits: the others', ``[R, N, C]``.
        weight: non-negative, ``[N]``.
    """
    distances = jax.vmap(distance, (None, 0))(logits, reference_logits)
    return jnp.mean(jax.vmap(weighted_mean, (0, None))(distances, weight))


def pairwise_distances(
    distance: Distance, logits: Array, reference_logits: Array, weight: Array
) -> Array:
    """Compute every model's mean distance to every other one.

    Args:
        distance: as for :func:`mean_distance`.
        logits: the models', ``[S, N, C]``.
        reference_logits: the others', ``[R, N, C]``.
        weight: non-negative, ``[N]``.

    Returns:
        Means over examples, ``[S, R]``.
    """

    def to_one(logits, reference):
        return mean_distance(distance, logits, reference[None], weight)

    to_all = jax.vmap(to_one, (None, 0))
    return jax.lax.map(lambda one: to_all(one, reference_logits), logits)
