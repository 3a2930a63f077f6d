"""Marks on Flax's dense and convolutional layers, Linen's and NNX's."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.linen.dtypes import promote_dtype
from flax.linen.linear import canonicalize_padding
from flax.nnx.nn import dtypes
from jax import lax

from hyperforget_jax.base import Array, Variables
from hyperforget_jax.models.convolution import conv
from hyperforget_jax.models.marks import Layer, mark_call
from hyperforget_jax.models.taps import Marked

__all__ = ["mark_linen", "mark_nnx"]

_LINEN = (nn.Dense, nn.DenseGeneral, nn.Conv)
_NNX = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.Einsum)


def mark_linen(
    module: nn.Module, options: Mapping[str, Any], *, strict: bool = False
) -> Marked:
    """Make a function of a Linen module that marks its layers.

    These are ``nn.Dense``, ``nn.Conv`` and ``nn.DenseGeneral``, so that attention has a
    tap for its queries, one for its keys, one for its values and one for its output.
    Layers within loops are left out.

    Args:
        module: a Linen module.
        options: keyword arguments of the module's ``__call__``.
        strict: whether to mark subclasses and layers with a product of their own, too,
            and to refuse layers that no tap explains. If not, these are left out.

    Raises:
        ValueError: if ``strict``, a convolution whose padding is no ``(low, high)``
            pair of zeros, or a dense layer that has ``batch_dims`` or contracts other
            than its last axes.
    """

    def apply(variables: Variables, x: Array) -> Any:
        entered: set[str] = set()

        def intercept(call, args, kwargs, context):
            layer, path = context.module, "/".join(context.module.path)
            if (
                context.method_name != "__call__"
                or not isinstance(layer, _LINEN)
                or path in entered  # A subclass that calls its parent's product.
                # Made by nn.remat or the like: the layer within is called as well.
                or type(layer).__module__ == nn.transforms.__name__
                or not (strict or _is_plain(layer))
                or not layer.has_variable("params", "kernel")
            ):
                return call(*args, **kwargs)
            (kernel,) = jax.tree.leaves(layer.get_variable("params", "kernel"))
            entered.add(path)
            try:
                described = _describe(layer, path, kernel.shape, args, kwargs, strict)
                return mark_call(described, call, args, kwargs)
            finally:
                entered.discard(path)

        with nn.intercept_methods(intercept):
            return module.apply(variables, x, **options)

    return apply


def mark_nnx(model: nnx.Module) -> None:
    """Mark the layers of an NNX model, which is changed for good.

    Only those whose parameters are where the model's state has them, and that are
    Flax's own product of their input and their kernel.

    Args:
        model: made for one call, and thrown away after it.
    """
    for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        *parents, name = path
        if name != "kernel":
            continue
        layer: Any = model
        for step in parents:
            layer = getattr(layer, step) if isinstance(step, str) else layer[step]
        if _is_plain(layer):
            layer.parameter_path = "/".join(map(str, parents))
            object.__setattr__(layer, "__class__", _MARKING[type(layer)])


def _marking(base: Any) -> Any:
    """A class of NNX layers that mark what they are given and what they give."""

    def __call__(self, *args, **kwargs):
        kernel = self.kernel.get_value().shape
        described = _describe(self, self.parameter_path, kernel, args, kwargs, False)
        return mark_call(
            described, functools.partial(base.__call__, self), args, kwargs
        )

    return type(base)(f"Marking{base.__name__}", (base,), {"__call__": __call__})


_MARKING = {base: _marking(base) for base in _NNX}


def _is_plain(layer: Any) -> bool:
    """Whether the layer is Flax's own product of its input and its kernel."""
    if type(layer) not in _LINEN + _NNX:
        return False
    if layer.promote_dtype not in (promote_dtype, dtypes.promote_dtype):
        return False
    if isinstance(layer, nnx.Einsum):
        return layer.einsum_op is jnp.einsum
    if isinstance(layer, (nn.Conv, nnx.Conv)):
        return (
            layer.mask is None
            and layer.conv_general_dilated in (None, lax.conv_general_dilated, conv)
            and getattr(layer, "conv_general_dilated_cls", None) is None
        )
    return (
        layer.dot_general in (None, lax.dot_general)
        and getattr(layer, "dot_general_cls", None) is None
    )


def _describe(
    layer: Any, path: str, kernel: tuple[int, ...], args, kwargs, strict: bool
) -> Layer | None:
    """What a layer is, by what it is called with; None (or an error) if no tap can."""
    given = (args[0] if args else kwargs["inputs"]).shape
    try:
        if isinstance(layer, (nn.Conv, nnx.Conv)):
            return _convolution(layer, path, kernel, given)
        if isinstance(layer, (nn.Dense, nnx.Linear)):
            return Layer(path, "dense", kernel)
        return Layer(path, "dense", kernel, _contracted(layer, path, given))
    except ValueError:
        if strict:
            raise
        return None


def _contracted(layer: Any, path: str, given: Sequence[int]) -> int:
    """How many of its input's last axes a dense layer contracts."""
    if isinstance(layer, nnx.Einsum):
        return _contracted_by_einsum(layer, path, given)
    axes, named = len(given), _per_axis(layer.axis, 1)
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
    window = _per_axis(layer.kernel_size, 1)
    strides, dilation, input_dilation = (
        _per_axis(value, len(window))
        for value in (layer.strides, layer.kernel_dilation, layer.input_dilation)
    )
    if any(d != 1 for d in input_dilation):
        raise ValueError(
            f"Layer {path} has input_dilation={layer.input_dilation}: taps know "
            "convolutions without input dilation only."
        )
    padding = canonicalize_padding(layer.padding, len(window))
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(
                f"Layer {path} has padding={padding!r}: taps know 'SAME', 'VALID' and "
                "explicit padding only."
            )
        spatial = given[-1 - len(window) : -1]
        extent = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        padding = lax.padtype_to_pads(spatial, extent, strides, padding.upper())
    return Layer(
        path,
        "conv",
        kernel,
        strides=strides,
        padding=tuple((int(low), int(high)) for low, high in padding),
        dilation=dilation,
        groups=layer.feature_group_count,
    )


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    if value is None:
        return (1,) * axes
    return (value,) * axes if isinstance(value, int) else tuple(value)
