"""How far the retained data's layer outputs moved, from their Gram matrices alone."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.grams import Grams
from hyperforget_jax.subspace.layer_matrix import layer_matrix

__all__ = ["drift", "relative_drift"]


def drift(grams: Grams, changes: Any) -> dict[str, Array]:
    r"""Compute the mean squared change of every layer's outputs, inputs held fixed.

    .. math:: \frac{1}{n} \sum_i \lVert \Delta W^T r_i \rVert^2
              = \mathrm{tr}(\Delta W^T G \, \Delta W) / n

    exactly, with no data at hand: a certificate of what a change did to the examples
    that the Gram matrices are of. Places of one example are summed. It is of single
    layers: what reaches a layer from those before it is not in it.

    Args:
        grams: of the examples in question, as by :func:`measure`.
        changes: like the parameters: their difference.

    Returns:
        By layer, float32, ``[]``, in squared units of the layer's outputs.
    """
    n = jnp.where(grams.total_weight > 0, grams.total_weight, 1)
    found = {}
    for path, gram in grams.values.items():
        matrix = layer_matrix(trees.get(changes, path), gram).astype(jnp.float32)
        moved = jnp.matmul(gram, matrix, precision=lax.Precision.HIGHEST)
        # Not negative but for rounding.
        found[path] = jnp.maximum(jnp.sum(matrix * moved), 0) / n
    return found


def relative_drift(grams: Grams, params: Any, changes: Any) -> dict[str, Array]:
    """Compute the drift's root as a share of the root of the outputs' mean square.

    Args:
        grams: as for :func:`drift`.
        params: the parameters before.
        changes: like them.

    Returns:
        By layer, float32, ``[]``; the drift's own root for a layer whose outputs were
        all zero.
    """
    moved, size = drift(grams, changes), drift(grams, params)
    return {
        path: jnp.sqrt(moved[path] / jnp.where(size[path] > 0, size[path], 1))
        for path in moved
    }
