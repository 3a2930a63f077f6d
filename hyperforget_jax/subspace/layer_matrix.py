"""Layers as matrices: a kernel, and its bias as one more row."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax import trees
from hyperforget_jax.base import Array

__all__ = ["layer_matrix", "map_layers", "with_layer"]


def layer_matrix(layer: Mapping[str, Array], gram: Array) -> Array:
    """Return the matrix that a layer's inputs are multiplied by, ``[G, D, O / G]``.

    Args:
        layer: ``kernel``, ``[*window, C / G, O]`` or ``[*inputs, *outputs]``; and
            ``bias``, if it has one.
        gram: anything ``[G, D, ...]`` as the layer's Gram matrices are: if it has one
            row more than the kernel, the bias is the last row.
    """
    groups, width = gram.shape[:2]
    kernel = layer["kernel"]
    rows = kernel.size // layer["bias"].size if "bias" in layer else width
    matrix = jnp.swapaxes(kernel.reshape(rows, groups, -1), 0, 1)
    if rows == width:
        return matrix
    return jnp.concatenate([matrix, layer["bias"].reshape(groups, 1, -1)], axis=1)


def with_layer(layer: Mapping[str, Array], matrix: Array) -> dict[str, Array]:
    """Return the layer of a matrix, ``[G, D, O / G]``; a bias not in it is zero."""
    kernel = layer["kernel"]
    rows = kernel.size // (matrix.shape[0] * matrix.shape[2])
    ungrouped = jnp.swapaxes(matrix[:, :rows], 0, 1).reshape(kernel.shape)
    new = {"kernel": ungrouped.astype(kernel.dtype)}
    if "bias" in layer:
        bias = layer["bias"]
        last = matrix[:, rows] if matrix.shape[1] > rows else jnp.zeros(bias.shape)
        new["bias"] = last.reshape(bias.shape).astype(bias.dtype)
    return new


def map_layers(
    params: Any,
    grams: Mapping[str, Array],
    change: Callable[[str, Array], Array],
) -> Any:
    """Change the matrices of some layers, and set every other leaf to zero.

    Args:
        params: the parameters, or anything like them.
        grams: ``[G, D, ...]`` by layer, as for :func:`layer_matrix`.
        change: ``(path, matrix) -> matrix``, float32, ``[G, D, O / G]``.
    """
    changed = jax.tree.map(jnp.zeros_like, params)
    for path, gram in grams.items():
        layer = trees.get(params, path)
        matrix = layer_matrix(layer, gram).astype(jnp.float32)
        # A layer's other parameters, if it has any, stay out of it.
        new = {**trees.get(changed, path), **with_layer(layer, change(path, matrix))}
        changed = trees.replace(changed, path, new)
    return changed
