"""A convolution that is fast inside a scan on the CPU and native elsewhere.

On XLA:CPU a convolution inside ``lax.scan`` or ``while_loop`` does not reach the
threaded kernels (https://github.com/jax-ml/jax/issues/12868), and ``vmap`` over
kernels turns it into a slow grouped convolution. Written as patches times a matrix
it is a batched GEMM in every case. ``experiments/benchmarks/population.py`` holds
the figures.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array

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
    """``lax.conv_general_dilated`` with an implementation chosen by the platform.

    For ``flax.linen.Conv(..., conv_general_dilated=conv)``, and for ``flax.nnx.Conv``:
    the layer, its HWIO kernel and every interceptor stay Flax's own. On the CPU the
    convolution is patches times a matrix; grouped and transposed convolutions, and
    layouts other than channels-last, are left to XLA everywhere.

    Args:
        lhs: inputs, ``[N, *spatial, C_in]``.
        rhs: kernel, ``[*window, C_in / groups, C_out]``.
        window_strides: one a spatial axis.
        padding: ``"SAME"``, ``"VALID"`` or ``(low, high)`` a spatial axis.
        lhs_dilation: input dilation, one a spatial axis.
        rhs_dilation: kernel dilation, one a spatial axis.
        dimension_numbers: as for ``lax.conv_general_dilated``.
        feature_group_count: groups.
        batch_group_count: as for ``lax.conv_general_dilated``.
        precision: of the products.
        preferred_element_type: of the accumulation.
        out_sharding: as for ``lax.conv_general_dilated``, to which the convolution is
            left where it is given.

    Returns:
        Outputs, ``[N, *spatial, C_out]``.
    """
    spatial = lhs.ndim - 2
    dilation = tuple(rhs_dilation or (1,) * spatial)
    strides = tuple(window_strides)
    channels_last = lax.conv_dimension_numbers(
        lhs.shape,
        rhs.shape,
        lax.ConvDimensionNumbers(
            (0, lhs.ndim - 1, *range(1, lhs.ndim - 1)),
            (lhs.ndim - 1, lhs.ndim - 2, *range(lhs.ndim - 2)),
            (0, lhs.ndim - 1, *range(1, lhs.ndim - 1)),
        ),
    )
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if isinstance(padding, str):
        window = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation, strict=False)]
        sizes = lhs.shape[1:-1]
        pads = lax.padtype_to_pads(sizes, window[:spatial], strides, padding)
    else:
        pads = list(padding)

    def native(lhs, rhs):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            strides,
            padding,
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
    )
    if not plain:
        return native(lhs, rhs)

    def as_product(lhs, rhs):
        taken = patches(lhs, rhs.shape[:spatial], strides, pads, dilation)
        return jnp.matmul(
            taken,
            rhs.reshape(-1, rhs.shape[-1]),
            precision=precision,
            preferred_element_type=preferred_element_type,
        )

    return lax.platform_dependent(lhs, rhs, cpu=as_product, default=native)


def patches(
    x: Array,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Array:
    """What the kernel sees at each place, ordered as an HWIO kernel is.

    Slices and a concatenation: ``lax.conv_general_dilated_patches`` is itself a
    convolution and suffers what this file is there to avoid.

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
    counts = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(x.shape[1:-1], window, dilation, strides, strict=True)
    ]

    def shifted(offset):
        start = [o * d for o, d in zip(offset, dilation, strict=True)]
        limit = [
            b + (n - 1) * s + 1 for b, n, s in zip(start, counts, strides, strict=True)
        ]
        return lax.slice(
            x,
            (0, *start, 0),
            (x.shape[0], *limit, x.shape[-1]),
            (1, *strides, 1),
        )

    offsets = [()]
    for size in window:
        offsets = [(*offset, o) for offset in offsets for o in range(size)]
    return jnp.concatenate([shifted(offset) for offset in offsets], axis=-1)
