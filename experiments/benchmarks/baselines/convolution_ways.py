"""A 3 x 3 convolution of stride one, padded to the same size, in several ways.

Each takes inputs ``[N, H, W, C_in]`` and an HWIO kernel, and gives outputs ``[N, H, W,
C_out]``.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

__all__ = ["HOW", "native", "patches", "shifted", "winograd"]

HOW = dict(
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)
# Winograd's F(2, 3): what a window of four inputs and a kernel of three become, so that
# their products give two outputs.
_OF_KERNEL = np.array(
    [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32
)


def native(x: Array, kernel: Array) -> Array:
    """Leave it to XLA."""
    return lax.conv_general_dilated(x, kernel, **HOW)


def patches(x: Array, kernel: Array) -> Array:
    """Multiply what the kernel sees at each place by a matrix."""
    seen = jnp.concatenate(_shifts(x), -1)
    return seen @ kernel.reshape(-1, kernel.shape[-1])


def shifted(x: Array, kernel: Array) -> Array:
    """Add nine products, of shifted images and a matrix each."""
    matrices = kernel.reshape(9, *kernel.shape[2:])
    products = (each @ matrices[n] for n, each in enumerate(_shifts(x)))
    return functools.reduce(jnp.add, products)


def winograd(x: Array, kernel: Array) -> Array:
    """Multiply windows and kernels transformed, F(2 x 2, 3 x 3), and transform back.

    Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv 1509.09308,
    2015. Sides of images are even.
    """
    count, height, width, _ = x.shape
    of_kernel = jnp.einsum("ai,bj,ijcd->abcd", _OF_KERNEL, _OF_KERNEL, kernel)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [w for row in _windows(x, 1) for w in _windows(row, 2)]
    stacked = jnp.stack(windows).reshape(4, 4, -1, x.shape[-1])
    shape = (4, 4, count, height // 2, width // 2, -1)
    products = jnp.matmul(stacked, of_kernel).reshape(shape)
    rows = [_pair(each) for each in _pair(products)]
    out = jnp.stack([jnp.stack(row, 3) for row in rows], 2)
    return out.reshape(count, height, width, -1)


def _shifts(x: Array) -> list[Array]:
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]


def _windows(x: Array, axis: int) -> tuple[Array, ...]:
    last = x.shape[axis] - 3
    a, b, c, d = (lax.slice_in_dim(x, n, n + last, 2, axis) for n in range(4))
    return a - c, b + c, c - b, b - d


def _pair(products: Array) -> tuple[Array, Array]:
    a, b, c, d = products
    return a + b + c, b - c - d
