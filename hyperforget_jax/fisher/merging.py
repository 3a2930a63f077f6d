"""One Fisher from those of many models: the maximum, parameter by parameter."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array
from hyperforget_jax.fisher.information import Fisher

__all__ = ["MERGES", "merge"]

MERGES = ("max", "mean", "sum")


def merge(fishers: Fisher, *, how: str = "max", reach: Array | None = None) -> Fisher:
    """What any of several root models holds important.

    The maximum is the merged Fisher information matrix of arXiv 2408.08493, for a
    model that descends from several roots. The published implementation also divides
    it by a hand-tuned 5 for every root beyond the first; the formula it states, and
    this, do not.

    Args:
        fishers: stacked: ``values`` are ``[J, ...]``, ``mass`` is ``[J]``.
        how: ``"max"``, ``"sum"``, or ``"mean"``, which is weighted by ``mass``.
        reach: which roots count, bool: ``[J]``, or ``[M, J]`` to merge for ``M`` models
            at once, of which each counts the roots that reach it. None counts all.
            What does not count may be anything, NaN too.

    Returns:
        One Fisher, or ``M`` stacked along the first axis; zero where no root counts.
        ``mass`` is the sum over the roots that count. Beside the ``J`` given no more
        than the ``M`` results are in memory.

    Raises:
        ValueError: unknown ``how``, or a ``reach`` of another shape.
    """
    if how not in MERGES:
        raise ValueError(f"how must be one of {MERGES}, got {how!r}.")
    num_roots = fishers.mass.shape[0]
    reach = jnp.ones(num_roots, bool) if reach is None else jnp.asarray(reach, bool)
    if reach.ndim not in (1, 2) or reach.shape[-1] != num_roots:
        raise ValueError(
            f"reach must be [J] or [M, J] with J={num_roots} Fishers, got shape "
            f"{reach.shape}."
        )
    counts = jnp.atleast_2d(reach)
    num_models = counts.shape[0]

    def fold(carry, root):
        merged, mass = carry
        value, more, count = root
        mass = mass + jnp.where(count, more, 0)
        share = jnp.where(count & (mass > 0), more / jnp.where(mass > 0, mass, 1), 0)

        def step(so_far, new):
            wide = (num_models, *[1] * new.ndim)
            new = new[None].astype(jnp.float32)
            if how == "max":
                larger = jnp.maximum(so_far, new)
            elif how == "sum":
                larger = so_far + new
            else:
                larger = so_far + (new - so_far) * share.reshape(wide)
            # Chosen, not multiplied by zero: zero times NaN is NaN.
            return jnp.where(count.reshape(wide), larger, so_far)

        return (jax.tree.map(step, merged, value), mass), None

    begun = (
        jax.tree.map(
            lambda leaf: jnp.zeros((num_models, *leaf.shape[1:]), jnp.float32),
            fishers.values,
        ),
        jnp.zeros(num_models, jnp.float32),
    )
    (merged, mass), _ = lax.scan(fold, begun, (fishers.values, fishers.mass, counts.T))
    result = dataclasses.replace(fishers, values=merged, mass=mass)
    return result if reach.ndim == 2 else jax.tree.map(lambda leaf: leaf[0], result)
