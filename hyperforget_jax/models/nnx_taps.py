"""NNX models whose layers are marked: each gets a class that marks its calls."""

import functools
from typing import Any

from flax import nnx

from hyperforget_jax.models.geometry import NNX_LAYERS, describe, is_plain
from hyperforget_jax.models.marks import mark_call

__all__ = ["mark_layers"]


def _marking(base: Any) -> Any:
    """A class of layers that mark what they are given and what they give."""

    def __call__(self, *args, **kwargs):
        def description(given):
            kernel = self.kernel.get_value().shape
            try:
                return describe(self, self.parameter_path, kernel, given.shape)
            except ValueError:
                return None  # Not one that a tap explains.

        return mark_call(
            description, functools.partial(base.__call__, self), args, kwargs
        )

    return type(base)(f"Marking{base.__name__}", (base,), {"__call__": __call__})


_CLASSES = {base: _marking(base) for base in NNX_LAYERS}


def mark_layers(model: nnx.Module) -> None:
    """Mark the layers of a model, which is changed for good.

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
        if type(layer) in _CLASSES and is_plain(layer):
            layer.parameter_path = "/".join(map(str, parents))
            object.__setattr__(layer, "__class__", _CLASSES[type(layer)])
