"""What every dense and convolutional layer of a Linen module was given."""

from typing import Any

import flax.linen as nn
from jax import lax

from hyperforget_jax.base import Array, Tap, Variables

__all__ = ["linen_taps"]


def linen_taps(
    module: nn.Module, variables: Variables, x: Array, **options: Any
) -> dict[str, tuple[Tap, ...]]:
    """The inputs of every ``nn.Dense`` and ``nn.Conv``, by parameter path.

    Args:
        module: a Linen module.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        **options: keyword arguments of the module's ``__call__``.

    Returns:
        ``{"Block_0/Conv_0": (tap, ...)}``: one tap a call, in order, so that a layer
        called twice has two. Paths are those of the parameters, joined by ``/``.

    Raises:
        ValueError: a convolution whose padding is no ``(low, high)`` pair of zeros.
    """
    taps: dict[str, tuple[Tap, ...]] = {}

    def record(call, args, kwargs, context):
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, nn.Dense | nn.Conv):
            path = "/".join(layer.path)
            given = args[0] if args else kwargs["inputs"]
            tap = (
                Tap(given, "dense")
                if isinstance(layer, nn.Dense)
                else _conv_tap(layer, path, given)
            )
            taps[path] = (*taps.get(path, ()), tap)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        module.apply(variables, x, **options)
    return taps


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
