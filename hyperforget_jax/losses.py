"""Per-example losses, and the weighted mean that all of them go through.

All follow from one number, the margin ``m = log p_y - log(1 - p_y)``, which is also
the score of likelihood-ratio membership inference. Written so, losses and gradients
keep their relative precision where ``p_y`` rounds to zero or to one.

Infinite logits are limits: a class at minus infinity is as good as absent, one at plus
infinity takes all. Losses that have a limit are that, which may be infinite, and no
gradient flows into the classes at infinity other than the label. Where there is no
limit (two classes at plus infinity, or all at minus infinity), losses are NaN.
"""

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array

__all__ = ["cross_entropy", "margin", "unlikelihood", "weighted_mean"]


def weighted_mean(values: Array, weight: Array) -> Array:
    """Compute ``sum(weight * values) / sum(weight)``; zero if all weights are zero.

    Args:
        values: floats, ``[N]``; those of weight zero may be anything, NaN too.
        weight: non-negative, ``[N]``.
    """
    values = values.astype(jnp.float32)  # Sums of bfloat16 stop growing at 256.
    # Chosen, not multiplied by zero: zero times NaN is NaN.
    values = jnp.where(weight > 0, values, 0)
    weight = weight.astype(jnp.float32)
    total = jnp.sum(weight)
    return jnp.sum(weight * values) / jnp.where(total > 0, total, 1)


def margin(logits: Array, y: Array) -> Array:
    """Compute ``z_y - logsumexp(z without y)``, the label's log-odds, ``[N]``.

    Carlini et al., Membership inference attacks from first principles,
    arXiv 2112.03570, 2022. Logits are ``[N, C]`` with at least two classes.
    """
    is_y = jnp.arange(logits.shape[-1])[None, :] == y[:, None]
    own = jnp.sum(jnp.where(is_y, logits, 0), axis=-1)
    # Written out: jax.nn.logsumexp guards each step against infinities, which a small
    # classifier's training step would feel.
    others = jnp.where(is_y, -jnp.inf, logits)
    largest = lax.stop_gradient(jnp.max(others, axis=-1, keepdims=True))
    # Infinity less infinity is NaN, and so is what flows back through it.
    shifted = jnp.where(jnp.isfinite(largest), others - largest, 0)
    total = jnp.sum(jnp.exp(shifted), axis=-1)
    return own - jnp.log(total) - largest[:, 0]


def cross_entropy(logits: Array, y: Array) -> Array:
    """Compute ``-log p_y`` in nats, ``[N]``.

    Args:
        logits: floats, ``[N, C]``.
        y: labels, ``[N]``.
    """
    return jax.nn.softplus(-margin(logits, y))


def unlikelihood(logits: Array, y: Array) -> Array:
    """Compute ``-log(1 - p_y)`` in nats, ``[N]``, which pushes a label out and stops.

    Its gradient vanishes with ``p_y``, while that of ``+log p_y`` is unbounded
    (Welleck et al., Neural text generation with unlikelihood training,
    arXiv 1908.04319, 2020).

    Args:
        logits: floats, ``[N, C]``.
        y: labels, ``[N]``.
    """
    return jax.nn.softplus(margin(logits, y))
