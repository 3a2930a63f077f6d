"""What the kernels of dense and convolutional layers see: one row a place."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array, Tap
from hyperforget_jax.models.convolution import patches

__all__ = ["pad", "rows_of"]


def rows_of(tap: Tap, kernel_shape: Sequence[int], bias: bool) -> Array:
    """Return what the kernel saw of each example at each place of one call.

    The rows times the layer's matrix are what the layer gave, place by place; the
    outputs of the groups lie side by side.

    Args:
        tap: of one call, input ``[N, ..., features]``.
        kernel_shape: shape of the layer's kernel, ``[*window, C / G, O]`` for a
            convolution; a dense layer's is not looked at.
        bias: whether the layer has a bias: every row then ends with a one, so that the
            bias is one more row of the layer's matrix.

    Returns:
        Rows, float32, ``[G, N, P, D]``: ``G`` feature groups, ``P`` places, in HWIO
        order as the kernel is. Negative padding crops, as it does for the layer.
    """
    num_rows, axes = tap.input.shape[0], len(tap.strides)
    given = tap.input.astype(jnp.float32)
    # The channels of a group lie side by side.
    given = given.reshape(*given.shape[:-1], tap.groups, -1)
    given = jnp.moveaxis(given, -2, 0)
    if tap.kind == "conv":
        images = pad(given.reshape(-1, *given.shape[-1 - axes :]), tap.padding)
        window, kept = kernel_shape[:axes], ((0, 0),) * axes
        given = patches(images, window, tap.strides, kept, tap.dilation)
    rows = given.reshape(tap.groups, num_rows, -1, given.shape[-1])
    if not bias:
        return rows
    return jnp.concatenate([rows, jnp.ones((*rows.shape[:-1], 1), rows.dtype)], axis=-1)


def pad(x: Array, padding: Sequence[tuple[int, int]]) -> Array:
    """Surround images with zeros, or crops them.

    Args:
        x: images, ``[N, *spatial, C]``.
        padding: ``(low, high)`` a spatial axis; what is negative is cut off.
    """
    margins = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), margins)
