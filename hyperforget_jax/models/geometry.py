"""What a layer of Flax does, as a matrix or a window: Linen's and NNX's alike."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx
from flax.linen.dtypes import promote_dtype
from flax.nnx.nn import dtypes
from jax import lax

from hyperforget_jax.models.convolution import conv
from hyperforget_jax.models.marks import Layer

__all__ = ["LINEN_LAYERS", "NNX_LAYERS", "describe", "is_plain"]

LINEN_LAYERS = (nn.Dense, nn.DenseGeneral, nn.Conv)
NNX_LAYERS = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.Einsum)

_PROMOTIONS = (promote_dtype, dtypes.promote_dtype)
_PRODUCTS = (None, lax.dot_general)
_CONVOLUTIONS = (None, lax.conv_general_dilated, conv)


def is_plain(layer: Any) -> bool:
    """Whether the layer is Flax's own product of its input and its kernel.

    Args:
        layer: one of :data:`LINEN_LAYERS` or :data:`NNX_LAYERS`, or of a subclass,
            which may do anything.
    """
    if type(layer) not in LINEN_LAYERS + NNX_LAYERS:
        return False
    if layer.promote_dtype not in _PROMOTIONS:
        return False
    if isinstance(layer, nnx.Einsum):
        return layer.einsum_op is jnp.einsum
    if isinstance(layer, (nn.Conv, nnx.Conv)):
        return (
            layer.mask is None
            and layer.conv_general_dilated in _CONVOLUTIONS
            and getattr(layer, "conv_general_dilated_cls", None) is None
        )
    return (
        layer.dot_general in _PRODUCTS
        and getattr(layer, "dot_general_cls", None) is None
    )


def describe(
    layer: Any, path: str, kernel: tuple[int, ...], given: tuple[int, ...]
) -> Layer:
    """What a dense or convolutional layer is.

    Args:
        layer: one of :data:`LINEN_LAYERS` or :data:`NNX_LAYERS`.
        path: of its parameters.
        kernel: the shape of its kernel.
        given: the shape of its input.

    Raises:
        ValueError: a convolution whose padding is no ``(low, high)`` pair of zeros, or
            a dense layer that contracts other than its last axes.
    """
    if isinstance(layer, (nn.Conv, nnx.Conv)):
        return _convolution(layer, path, kernel, given)
    contracted = 1
    if isinstance(layer, (nn.DenseGeneral, nnx.LinearGeneral)):
        contracted = _contracted(layer, path, len(given))
    if isinstance(layer, nnx.Einsum):
        contracted = _contracted_by_einsum(layer, path, given)
    return Layer(path, "dense", kernel, contracted)


def _contracted(layer: Any, path: str, axes: int) -> int:
    named = _per_axis(layer.axis, 1)
    batch = layer.batch_dims if isinstance(layer, nn.DenseGeneral) else layer.batch_axis
    first = axes - len(named)
    # In whatever order they are named: Flax sorts them, and the kernel's with them.
    trailing = sorted(axis % axes for axis in named) == [*range(first, axes)]
    if batch or not trailing or not 0 < first < axes:
        raise ValueError(
            f"Layer {path} has axis={layer.axis} and batch_dims={batch} for "
            f"an input of {axes} axes: taps know dense layers that contract the "
            "last axes, without batch_dims, only."
        )
    return len(named)


def _contracted_by_einsum(layer: Any, path: str, given: Sequence[int]) -> int:
    """How many axes ``"...k,kf->...f"`` contracts, whatever its letters are."""
    terms, result = (layer.einsum_str or "->").split("->")
    left, _, right = terms.partition(",")
    count = sum(letter not in result for letter in right)
    last, rest = right[:count], right[count:]
    kept = left.removesuffix(last)
    if (
        not 0 < count < len(given)
        or not left.endswith(last)
        or len(set(right)) < len(right)
        or result != kept + rest
        or set(kept) & set(right)
        or layer.bias_shape not in (None, layer.kernel_shape[count:])
    ):
        raise ValueError(
            f"Layer {path} has einsum_str={layer.einsum_str!r}: taps know products "
            "like '...k,kf->...f', which contract the last axes of the input with the "
            "first of the kernel, only."
        )
    return count


def _convolution(layer: Any, path: str, kernel, given: Sequence[int]) -> Layer:
    size = layer.kernel_size
    window = (size,) if isinstance(size, int) else tuple(size)
    strides = _per_axis(layer.strides, len(window))
    dilation = _per_axis(layer.kernel_dilation, len(window))
    if any(d != 1 for d in _per_axis(layer.input_dilation, len(window))):
        raise ValueError(
            f"Layer {path} has input_dilation={layer.input_dilation}: taps know "
            "convolutions without input dilation only."
        )
    return Layer(
        path,
        "conv",
        kernel,
        strides=strides,
        padding=_explicit_padding(layer, path, given, window, strides, dilation),
        dilation=dilation,
        groups=layer.feature_group_count,
    )


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    if value is None:
        return (1,) * axes
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _explicit_padding(
    layer, path, given, window, strides, dilation
) -> tuple[tuple[int, int], ...]:
    padding = layer.padding
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(
                f"Layer {path} has padding={padding!r}: taps know 'SAME', 'VALID' and "
                "explicit padding only."
            )
        spatial = given[-1 - len(window) : -1]
        extent = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        pads = lax.padtype_to_pads(spatial, extent, strides, padding.upper())
        return tuple((int(low), int(high)) for low, high in pads)
    if isinstance(padding, int):
        return ((padding, padding),) * len(window)
    pairs = tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding)
    return pairs * len(window) if len(pairs) == 1 else pairs
