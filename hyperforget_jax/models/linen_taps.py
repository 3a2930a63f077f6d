"""Linen modules whose layers are marked, by intercepting their calls."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from hyperforget_jax.base import Array, Tap, Variables
from hyperforget_jax.models import taps
from hyperforget_jax.models.geometry import LINEN_LAYERS, describe, is_plain
from hyperforget_jax.models.marks import mark_call

__all__ = ["linen_tapped", "linen_taps"]


def linen_taps(
    module: nn.Module, variables: Variables, x: Array, **options: Any
) -> dict[str, tuple[Tap, ...]]:
    """Compute the inputs of every dense and convolutional layer, by parameter path.

    These are ``nn.Dense``, ``nn.Conv`` and ``nn.DenseGeneral``, so that attention has a
    tap for its queries, one for its keys, one for its values and one for its output.

    Args:
        module: a Linen module.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        **options: keyword arguments of the module's ``__call__``.

    Returns:
        As :func:`hyperforget_jax.models.taps.taps_of`. Layers within loops are left
        out.

    Raises:
        ValueError: a convolution whose padding is no ``(low, high)`` pair of zeros, or
            a dense layer that has ``batch_dims`` or contracts other than its last axes.
    """
    return taps.taps_of(_marked(module, options, strict=True), variables, x)


def linen_tapped(
    module: nn.Module,
    variables: Variables,
    x: Array,
    shifts: Mapping[str, tuple[Array, ...]],
    **options: Any,
) -> tuple[Array, dict[str, tuple[Tap, ...]]]:
    """Compute logits and taps, with something added to the outputs of some layers.

    Args:
        module: a Linen module.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        shifts: what is added to a layer's outputs, by parameter path, one array a call.
        **options: keyword arguments of the module's ``__call__``.

    Returns:
        The logits, and the taps of the layers in ``shifts``; if that is empty, of every
        plain ``nn.Dense``, ``nn.DenseGeneral`` and ``nn.Conv`` whose parameters act
        through its calls and in no other way, under ``nn.remat`` too. Layers under
        ``nn.scan`` and ``nn.vmap``, subclasses, layers with a product of their own and
        those that :func:`linen_taps` refuses are left out.
    """
    return taps.tap(_marked(module, options), variables, x, shifts)


def _marked(
    module: nn.Module, options: Mapping[str, Any], *, strict: bool = False
) -> taps.Marked:
    """The module with marks on its layers: on those it knows, or (strict) on all."""

    def apply(variables: Variables, x: Array) -> Any:
        entered: set[str] = set()

        def intercept(call, args, kwargs, context):
            layer, path = context.module, "/".join(context.module.path)
            if (
                context.method_name != "__call__"
                or not isinstance(layer, LINEN_LAYERS)
                or path in entered  # A subclass that calls its parent's product.
                or _is_lifted(layer)  # The layer within is called as well.
                or not (strict or is_plain(layer))
            ):
                return call(*args, **kwargs)

            def description(given):
                if not layer.has_variable("params", "kernel"):
                    return None
                (kernel,) = jax.tree.leaves(layer.get_variable("params", "kernel"))
                try:
                    return describe(layer, path, kernel.shape, given.shape)
                except ValueError:
                    if strict:
                        raise
                    return None

            entered.add(path)
            try:
                return mark_call(description, call, args, kwargs)
            finally:
                entered.discard(path)

        with nn.intercept_methods(intercept):
            return module.apply(variables, x, **options)

    return apply


def _is_lifted(layer: nn.Module) -> bool:
    """Whether the layer's class is one that ``nn.remat`` or the like has made."""
    return type(layer).__module__ == nn.transforms.__name__
