"""The Gram matrix of a convolution's patches, without most of the patches.

Two columns of a window see the same two columns of the image, a little later, as any
other two that are as far apart: their products over all places are one sum but for what
lies at the edges.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array
from hyperforget_jax.models.convolution import patches
from hyperforget_jax.models.layer_inputs import pad

__all__ = ["displacement_gram", "with_constant"]

_EXACT = lax.Precision.HIGHEST
_ONES = (1, 1)
_NONE = ((0, 0), (0, 0))


def displacement_gram(
    x: Array,
    weight: Array,
    window: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Array:
    r"""Gram matrix of the patches of a convolution without strides or dilation.

    With :math:`c_{u}` the pixels that a window's column at ``u`` sees, the block of the
    columns ``p`` and ``q`` is

    .. math:: G_{pq} = \sum_{p \le u < p + P} c_u c_{u + q - p}^\top,

    a sum of which the middle depends on ``q - p`` alone. The columns at the edges are
    added to it, so nothing cancels. Down the window patches are taken as ever: doing
    this on both axes saves more products, and was no faster for being many small ones
    (and ten times as slow to compile).

    Args:
        x: inputs, ``[N, H, W, C]``.
        weight: how often each row counts, ``[N]``.
        window: kernel size ``(kh, kw)``.
        padding: ``(low, high)`` an axis; what is negative is cut off.

    Returns:
        The sum over rows and places of ``weight * patch patch^T``, float32,
        ``[kh * kw * C, kh * kw * C]``, ordered as an HWIO kernel is.
    """
    x, weight = pad(x.astype(jnp.float32), padding), weight.astype(jnp.float32)
    height, width = window
    weight = weight[:, None, None, None]
    if x.shape[2] < 2 * (width - 1):  # No column is in the middle.
        rows = patches(x, window, _ONES, _NONE, _ONES)
        return _sum_of_products(weight * rows, rows)
    seen = patches(x, (height, 1), _ONES, _NONE, _ONES)
    weighted = weight * seen
    blocks = {}
    for apart in range(width):
        edge = width - 1 - apart
        left, right = weighted[:, :, : x.shape[2] - apart], seen[:, :, apart:]
        sums = _by_column(left, right, edge)
        for p in range(edge + 1):
            # The middle, and as many columns beside it as one edge has.
            blocks[p, p + apart] = jnp.sum(sums[p : p + edge + 1], axis=0)
            blocks[p + apart, p] = blocks[p, p + apart].T
    gram = jnp.stack([blocks[p, q] for p in range(width) for q in range(width)])
    channels = x.shape[-1]
    gram = gram.reshape(width, width, height, channels, height, channels)
    size = height * width * channels
    return gram.transpose(2, 0, 3, 4, 1, 5).reshape(size, size)


def with_constant(
    gram: Array,
    x: Array,
    weight: Array,
    window: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Array:
    """The Gram matrix of the same patches, each with a one at its end.

    Args:
        gram: as :func:`displacement_gram` gives it for the other arguments, ``[D, D]``.
        x: inputs, ``[N, H, W, C]``.
        weight: how often each row counts, ``[N]``.
        window: kernel size ``(kh, kw)``.
        padding: ``(low, high)`` an axis; what is negative is cut off.

    Returns:
        Float32, ``[D + 1, D + 1]``.
    """
    weight = weight.astype(jnp.float32)
    total = jnp.tensordot(weight, x.astype(jnp.float32), 1, precision=_EXACT)
    taken = patches(pad(total[None], padding), window, _ONES, _NONE, _ONES)
    patch = jnp.sum(taken, axis=(0, 1, 2))[:, None]
    count = jnp.sum(weight) * (taken.shape[1] * taken.shape[2])
    return jnp.block([[gram, patch], [patch.T, count[None, None]]])


def _by_column(left: Array, right: Array, edge: int) -> Array:
    """Products summed column by column at both edges, and over all the middle at once.

    Args:
        left: ``[N, H, W, K]``.
        right: ``[N, H, W, K]``.
        edge: how many columns are an edge.

    Returns:
        ``[edge + 1 + edge, K, K]``, from left to right.
    """
    end = left.shape[2] - edge
    middle = _sum_of_products(left[:, :, edge:end], right[:, :, edge:end])[None]
    if not edge:
        return middle
    outer = [
        jnp.concatenate([side[:, :, :edge], side[:, :, end:]], axis=2)
        for side in (left, right)
    ]
    edges = jnp.einsum("nhwk,nhwl->wkl", *outer, precision=_EXACT)
    return jnp.concatenate([edges[:edge], middle, edges[edge:]])


def _sum_of_products(left: Array, right: Array) -> Array:
    return jnp.einsum("nhwk,nhwl->kl", left, right, precision=_EXACT)
