"""What is left of a Fisher when a part of its data is forgotten."""

import dataclasses

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.fisher.information import Fisher, check_comparable

__all__ = ["without"]


def without(whole: Fisher, share: Fisher, weight: Array) -> Fisher:
    """A mean over examples, less the share of some of them.

    Minibatches are not cut where requests are: under ``"batch_gradient"`` as many are
    taken out as the forgotten rows would fill. A row fills one place of a minibatch
    however much it weighs.

    Args:
        whole: the Fisher of all data.
        share: that of the data to be forgotten, which may have been taken at other
            variables, so that parts may exceed the whole: what would be negative is
            zero.
        weight: the forgotten data's weights, ``[F]``.

    Returns:
        The Fisher of what is left; all zero, the mass too, where nothing is, or where
        more is taken out than there was.

    Raises:
        ValueError: Fishers that are not comparable, or ``weight`` that is not ``[F]``.
    """
    check_comparable(whole, share)
    weight = jnp.asarray(weight)
    if weight.ndim != 1:
        raise ValueError(
            "weight must be [F], the weight of every forgotten row (forget.weight), "
            f"got shape {weight.shape}."
        )
    if whole.batch_size is None:
        gone = jnp.sum(weight, dtype=jnp.float32)
    else:
        gone = jnp.sum(weight > 0, dtype=jnp.float32) / whole.batch_size
    mass = jnp.maximum(whole.mass - gone, 0)
    values = jax.tree.map(
        lambda d, f: jnp.where(
            mass > 0,
            jnp.maximum(d * whole.mass - f * gone, 0) / jnp.where(mass > 0, mass, 1),
            0,
        ),
        whole.values,
        share.values,
    )
    return dataclasses.replace(whole, values=values, mass=mass)
