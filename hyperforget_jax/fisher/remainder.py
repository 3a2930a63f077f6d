"""What is left of a Fisher when a part of its data is forgotten."""

import dataclasses

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.fisher.information import Fisher, check_comparable

__all__ = ["without"]


def without(whole: Fisher, share: Fisher, weight: Array) -> Fisher:
    """A mean over examples, less the share of some of them.

    Minibatches are not cut where requests are: under ``"batch_gradient"`` the share
    of minibatches that the weight would fill is taken out.

    Args:
        whole: the Fisher of all data.
        share: that of the data to be forgotten, which may have been taken at other
            variables, so that parts may exceed the whole: what would be negative is
            zero.
        weight: the sum of the forgotten data's weights, ``[]``.

    Raises:
        ValueError: Fishers that are not comparable.
    """
    check_comparable(whole, share)
    gone = jnp.asarray(weight, jnp.float32) / (whole.batch_size or 1)
    mass = whole.mass - gone
    values = jax.tree.map(
        lambda d, f: (
            jnp.maximum(d * whole.mass - f * gone, 0) / jnp.where(mass > 0, mass, 1)
        ),
        whole.values,
        share.values,
    )
    return dataclasses.replace(whole, values=values, mass=mass)
