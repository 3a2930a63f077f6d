"""A convolution that is fast inside a scan on the CPU and native elsewhere."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array
from hyperforget_jax.models.conv_primitive import Window, convolve

__all__ = ["conv", "patches"]


def conv(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Array:
    """Compute ``lax.conv_general_dilated``, the way that suits the platform.

    For ``flax.linen.Conv(..., conv_general_dilated=conv)``, and for ``flax.nnx.Conv``:
    the layer, its HWIO kernel and every interceptor stay Flax's own. On the CPU the
    convolution and its gradients are written in the form that XLA's kernels take, in
    loops as well, and models under ``vmap`` go one after another; grouped and
    transposed convolutions, layouts other than channels-last, numbers that are not
    real, and what is given an ``out_sharding`` are left to XLA everywhere.

    Args:
        lhs: inputs, ``[N, *spatial, C_in]``.
        rhs: kernel, ``[*window, C_in / groups, C_out]``.
        window_strides: as for ``lax.conv_general_dilated``, like all the rest.

    Returns:
        Outputs, ``[N, *spatial, C_out]``.
    """
    axes, spatial = lhs.ndim - 2, tuple(range(1, lhs.ndim - 1))
    dilation = tuple(rhs_dilation or (1,) * axes)
    strides = tuple(window_strides)
    first, last = (0, lhs.ndim - 1, *spatial), (lhs.ndim - 1, axes, *range(axes))
    channels_last = lax.ConvDimensionNumbers(first, last, first)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if not isinstance(padding, str):
        pads = list(padding)
    else:
        extent = [
            (k - 1) * d + 1 for k, d in zip(rhs.shape[:axes], dilation, strict=True)
        ]
        pads = lax.padtype_to_pads(lhs.shape[1:-1], extent, strides, padding)
    native = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=dilation,
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        **({} if out_sharding is None else {"out_sharding": out_sharding}),
    )
    plain = (
        numbers == channels_last
        and out_sharding is None
        and feature_group_count == batch_group_count == 1
        and all(d == 1 for d in lhs_dilation or ())
        and all(size >= 0 for pair in pads for size in pair)
        and lhs.dtype == rhs.dtype
        and lhs.shape[-1] == rhs.shape[-2]  # Else there is an error to be raised.
        and jnp.issubdtype(lhs.dtype, jnp.floating)
    )
    if not plain:
        return native(lhs, rhs)

    if isinstance(precision, list):
        precision = tuple(precision)
    window = Window(
        lhs.shape[1:-1], rhs.shape[:axes], strides, tuple(pads), dilation, precision
    )
    if 0 in window.outputs:  # Nothing fits, and has no gradient either.
        return native(lhs, rhs)
    return convolve(lhs, rhs, window, preferred_element_type or lhs.dtype)


def patches(
    x: Array,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Array:
    """Take what the kernel sees at each place, ordered as an HWIO kernel is.

    Slices and a concatenation: ``lax.conv_general_dilated_patches`` is itself a
    grouped convolution, which is slow on the CPU.

    Args:
        x: inputs, ``[N, *spatial, C]``.
        window: kernel size, one a spatial axis.
        strides: one a spatial axis.
        pads: ``(low, high)`` a spatial axis, not negative.
        dilation: kernel dilation, one a spatial axis.

    Returns:
        Patches, ``[N, *spatial, prod(window) * C]``.
    """
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    taken = []
    for offset in itertools.product(*map(range, window)):
        starts = [o * d for o, d in zip(offset, dilation, strict=True)]
        ends = [
            size - (k - 1 - o) * d
            for size, k, o, d in zip(
                x.shape[1:-1], window, offset, dilation, strict=True
            )
        ]
        low, high = (0, *starts, 0), (x.shape[0], *ends, x.shape[-1])
        taken.append(lax.slice(x, low, high, (1, *strides, 1)))
    return jnp.concatenate(taken, axis=-1)
