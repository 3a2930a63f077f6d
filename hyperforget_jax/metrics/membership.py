"""How well scores of membership inference tell members from others."""

import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Array

__all__ = ["auc"]


def auc(
    members: Array,
    non_members: Array,
    member_weight: Array,
    non_member_weight: Array,
) -> Array:
    """Compute the chance that a member's score is above a non-member's, ties half.

    Whether an example was a member is a yes or no: a weight above zero is a yes,
    whatever it is. In float32; on the host, :func:`hyperforget_jax.evaluation.auc`
    computes in float64.

    Source: Yeom et al., Privacy risk in machine learning, arXiv 1709.01604, 2018.

    Args:
        members: finite scores, such as margins or negated losses, ``[M]``.
        non_members: finite scores, ``[K]``.
        member_weight: ``[M]``; where it is zero, scores may be anything.
        non_member_weight: ``[K]``; likewise.

    Returns:
        A fraction, ``[]``; zero where a group is empty.
    """
    is_out = non_member_weight > 0
    outside = jnp.sort(jnp.where(is_out, non_members, jnp.inf))
    below = jnp.searchsorted(outside, members, side="left")
    at_most = jnp.searchsorted(outside, members, side="right")
    share = losses.weighted_mean((below + at_most) / 2, member_weight > 0)
    return share / jnp.maximum(jnp.sum(is_out), 1)
