"""Layers that the shipped networks share: all are fast inside a scan on the CPU."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.models.convolution import conv

__all__ = ["BatchNorm", "Conv", "max_pool"]

# Flax's layer with its HWIO kernel; only the product behind it is chosen by platform.
Conv = partial(nn.Conv, conv_general_dilated=conv)
BatchNorm = partial(nn.BatchNorm, momentum=0.9)


def max_pool(x: Array) -> Array:
    """Take maxima of 2 x 2 windows with stride 2; an odd last row or column is dropped.

    The same as ``nn.max_pool(x, (2, 2), (2, 2))``. Slices and maxima: a window that is
    reduced, and its gradient, are slow on the CPU. Where entries of a window are equal
    they share the gradient.

    Args:
        x: images, ``[N, H, W, C]``.

    Returns:
        Images, ``[N, H // 2, W // 2, C]``.

    Raises:
        ValueError: images smaller than a window.
    """
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    if not height or not width:
        raise ValueError(
            f"Images of {x.shape[1]} x {x.shape[2]} are smaller than a window of 2 x 2:"
            " give the network larger ones, or fewer stages."
        )
    rows = jnp.maximum(x[:, :height:2], x[:, 1:height:2])
    return jnp.maximum(rows[:, :, :width:2], rows[:, :, 1:width:2])
