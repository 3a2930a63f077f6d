"""Linen modules whose layers are marked, by intercepting their calls."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from hyperforget_jax.base import Array, Variables
from hyperforget_jax.models.geometry import LINEN_LAYERS, describe, is_plain
from hyperforget_jax.models.marks import mark_call
from hyperforget_jax.models.taps import Marked

__all__ = ["mark_linen"]


def mark_linen(
    module: nn.Module, options: Mapping[str, Any], *, strict: bool = False
) -> Marked:
    """Make a function of a module that marks its layers.

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
