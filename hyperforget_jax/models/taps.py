"""What every dense and convolutional layer of a Linen module was given."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import Array, Tap, Variables
from hyperforget_jax.models.convolution import conv

__all__ = ["linen_tapped", "linen_taps"]

_LAYERS = nn.Dense | nn.DenseGeneral | nn.Conv


def linen_taps(
    module: nn.Module, variables: Variables, x: Array, **options: Any
) -> dict[str, tuple[Tap, ...]]:
    """The inputs of every dense and convolutional layer, by parameter path.

    These are ``nn.Dense``, ``nn.Conv`` and ``nn.DenseGeneral``, so that attention has a
    tap for its queries, one for its keys, one for its values and one for its output.

    Args:
        module: a Linen module.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        **options: keyword arguments of the module's ``__call__``.

    Returns:
        ``{"Block_0/Conv_0": (tap, ...)}``: one tap a call, in order, so that a layer
        called twice has two. Paths are those of the parameters, joined by ``/``.

    Raises:
        ValueError: a convolution whose padding is no ``(low, high)`` pair of zeros, or
            a dense layer that has ``batch_dims`` or contracts other than its last axes.
    """
    taps: dict[str, tuple[Tap, ...]] = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if _is_call(context, _LAYERS):
            path = "/".join(context.module.path)
            tap = _tap(context.module, path, _given(args, kwargs), out)
            taps[path] = (*taps.get(path, ()), tap)
        return out

    with nn.intercept_methods(record):
        module.apply(variables, x, **options)
    return taps


def linen_tapped(
    module: nn.Module,
    variables: Variables,
    x: Array,
    shifts: Mapping[str, tuple[Array, ...]],
    **options: Any,
) -> tuple[Array, dict[str, tuple[Tap, ...]]]:
    """Logits and taps, with something added to the outputs of some layers.

    Args:
        module: a Linen module.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        shifts: what is added to a layer's outputs, by parameter path, one array a call.
        **options: keyword arguments of the module's ``__call__``.

    Returns:
        The logits, and the taps of the layers in ``shifts``; if that is empty, of every
        plain ``nn.Dense``, ``nn.DenseGeneral`` and ``nn.Conv`` whose parameters act
        through its calls and in no other way. Layers under ``nn.scan``, ``nn.remat``
        and the like, subclasses, layers with a product of their own and those that
        :func:`linen_taps` refuses are left out.
    """
    if not shifts:
        logits, taps, outputs = _tap_plain_layers(module, variables, x, options)
        shut_in = _without_other_uses(module, variables, x, outputs, options)
        return logits, {path: calls for path, calls in taps.items() if path in shut_in}
    logits, taps, _ = _tap_plain_layers(module, variables, x, options, shifts)
    return logits, taps


def _tap_plain_layers(module, variables, x, options, shifts=None):
    """Logits, taps and outputs of all plain layers, or of those with a shift."""
    taps: dict[str, tuple[Tap, ...]] = {}
    outputs: dict[str, tuple[Array, ...]] = {}
    unknown: set[str] = set()
    root: list[Any] = []

    def record(call, args, kwargs, context):
        layer = context.module
        root[:] = root or [layer.scope.root]  # The first call is the model's own.
        out = call(*args, **kwargs)
        if not _is_call(context, _LAYERS):
            return out
        path = "/".join(layer.path)
        if shifts is not None and path not in shifts:
            return out
        # Under a lifted transformation the scope has another root, and what is
        # recorded there could not be carried out.
        if layer.scope.root is not root[0] or not _is_plain(layer):
            unknown.add(path)
            return out
        try:
            tap = _tap(layer, path, _given(args, kwargs), out)
        except ValueError:
            unknown.add(path)
            return out
        if shifts is not None:
            out = out + shifts[path][len(outputs.get(path, ()))].astype(out.dtype)
        taps[path] = (*taps.get(path, ()), tap)
        outputs[path] = (*outputs.get(path, ()), out)
        return out

    with nn.intercept_methods(record):
        logits: Any = module.apply(variables, x, **options)
    marked = {
        path: tuple(
            dataclasses.replace(tap, gives_logits=out is logits)
            for tap, out in zip(calls, outputs[path], strict=True)
        )
        for path, calls in taps.items()
        if path not in unknown
    }
    return logits, marked, {path: outputs[path] for path in marked}


def _without_other_uses(
    module, variables, x, outputs: Mapping[str, tuple[Array, ...]], options
) -> set[str]:
    """Layers whose parameters nothing reads once their calls are left out.

    A kernel that the model reads elsewhere too (tied weights) has a gradient that its
    calls do not show.
    """
    counts: dict[str, int] = {}

    def skip(call, args, kwargs, context):
        path = "/".join(context.module.path)
        # Not a module that shares the layer's scope and reads it in its own ways.
        if not _is_call(context, _LAYERS) or path not in outputs:
            return call(*args, **kwargs)
        out = outputs[path][counts.get(path, 0)]
        counts[path] = counts.get(path, 0) + 1
        return jnp.zeros(out.shape, out.dtype)

    def rest_of(params):
        with nn.intercept_methods(skip):
            return module.apply({**variables, "params": params}, x, **options)

    params = variables["params"]
    jaxpr = jax.make_jaxpr(rest_of)(params).jaxpr
    read = {id(v) for equation in jaxpr.eqns for v in equation.invars}
    read |= {id(v) for v in jaxpr.outvars}
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    elsewhere = {
        jax.tree_util.keystr(keys[:-1], simple=True, separator="/")
        for (keys, _), variable in zip(leaves, jaxpr.invars, strict=True)
        if id(variable) in read
    }
    return set(outputs) - elsewhere


def _is_call(context, kinds) -> bool:
    return context.method_name == "__call__" and isinstance(context.module, kinds)


def _given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Array:
    return args[0] if args else kwargs["inputs"]


def _is_plain(layer: nn.Module) -> bool:
    """Whether the layer is Flax's own product of its input and its kernel."""
    if type(layer) is nn.Dense or type(layer) is nn.DenseGeneral:
        return layer.dot_general is None and layer.dot_general_cls is None
    return (
        type(layer) is nn.Conv
        and layer.mask is None
        and layer.conv_general_dilated in (None, conv)
        and layer.conv_general_dilated_cls is None
    )


def _tap(layer: _LAYERS, path: str, given: Array, out: Array) -> Tap:
    if isinstance(layer, nn.Conv):
        tap = _conv_tap(layer, path, given)
        return dataclasses.replace(tap, output_shape=out.shape)
    if isinstance(layer, nn.DenseGeneral):
        given = _as_one_axis(layer, path, given)
    return Tap(given, "dense", output_shape=out.shape)


def _as_one_axis(layer: nn.DenseGeneral, path: str, given: Array) -> Array:
    """The input with the axes that the layer contracts made one, ``[N, ..., D]``."""
    axes = _per_axis(layer.axis, 1)
    first = given.ndim - len(axes)
    # In whatever order they are named: Flax sorts them, and the kernel's with them.
    trailing = sorted(axis % given.ndim for axis in axes) == [*range(first, given.ndim)]
    if layer.batch_dims or not trailing or not 0 < first < given.ndim:
        raise ValueError(
            f"Layer {path} has axis={layer.axis} and batch_dims={layer.batch_dims} for "
            f"an input of {given.ndim} axes: taps know dense layers that contract the "
            "last axes, without batch_dims, only."
        )
    return given.reshape(*given.shape[:first], math.prod(given.shape[first:]))


def _conv_tap(layer: nn.Conv, path: str, given: Array) -> Tap:
    size = layer.kernel_size
    window = (size,) if isinstance(size, int) else tuple(size)
    strides = _per_axis(layer.strides, len(window))
    dilation = _per_axis(layer.kernel_dilation, len(window))
    if any(d != 1 for d in _per_axis(layer.input_dilation, len(window))):
        raise ValueError(
            f"Layer {path} has input_dilation={layer.input_dilation}: taps know "
            "convolutions without input dilation only."
        )
    return Tap(
        given,
        "conv",
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
        spatial = given.shape[-1 - len(window) : -1]
        extent = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        pads = lax.padtype_to_pads(spatial, extent, strides, padding.upper())
        return tuple((int(low), int(high)) for low, high in pads)
    if isinstance(padding, int):
        return ((padding, padding),) * len(window)
    pairs = tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding)
    return pairs * len(window) if len(pairs) == 1 else pairs
