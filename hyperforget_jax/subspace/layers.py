"""Layers as matrices: a kernel, and its bias as one more row."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["layer_matrix", "map_layers", "with_layer"]


def layer_matrix(layer: Mapping[str, Array], gram: Array) -> Array:
    """The matrix that a layer's inputs are multiplied by, ``[G, D, O / G]``.

    Args:
        layer: ``kernel``, ``[*window, C / G, O]`` or ``[*inputs, *outputs]``; and
            ``bias``, if it has one.
        gram: anything ``[G, D, ...]`` as the layer's Gram matrices are: if it has one
            row more than the kernel, the bias is the last row.
    """
    groups, width = gram.shape[:2]
    kernel = layer["kernel"]
    if "bias" not in layer:
        return _grouped(kernel, groups, width)
    rows = kernel.size // layer["bias"].size
    matrix = _grouped(kernel, groups, rows)
    if rows == width:
        return matrix
    bias = layer["bias"].reshape(groups, 1, -1)
    return jnp.concatenate([matrix, bias], axis=1)


def with_layer(layer: Mapping[str, Array], matrix: Array) -> dict[str, Array]:
    """The layer that has the given matrix; a bias that is no row of it is zero.

    Args:
        layer: of the shapes wanted.
        matrix: ``[G, D, O / G]``.
    """
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
    """Changes the matrices of some layers; every other leaf becomes zero.

    Args:
        params: the parameters, or anything like them.
        grams: ``[G, D, ...]`` by layer, as for :func:`layer_matrix`.
        change: ``(path, matrix) -> matrix``, ``[G, D, O / G]``.
    """

    def walk(node: Any, path: tuple[str, ...]) -> Any:
        name = "/".join(path)
        if name in grams:
            matrix = layer_matrix(node, grams[name]).astype(jnp.float32)
            # A layer's other parameters, if it has any, stay out of it.
            others = {key: jnp.zeros_like(leaf) for key, leaf in node.items()}
            return {**others, **with_layer(node, change(name, matrix))}
        if isinstance(node, Mapping):
            return {key: walk(child, (*path, key)) for key, child in node.items()}
        return jnp.zeros_like(node)

    return walk(params, ())


def _grouped(kernel: Array, groups: int, rows: int) -> Array:
    return jnp.swapaxes(kernel.reshape(rows, groups, -1), 0, 1)
