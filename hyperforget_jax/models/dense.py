"""A dense layer for plain functions, which methods can find by its name."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.models.marks import Layer, mark_call

__all__ = ["dense"]


def dense(layer: Mapping[str, Any], x: Array, path: str) -> Array:
    """Compute a dense layer, ``x @ kernel + bias``, and name it.

    For the ``apply`` of :func:`hyperforget_jax.from_functions`: the name is what makes
    ``hf.fiun`` and ``hf.pgu`` find the layer, and costs nothing. It may stand in
    ``jax.jit``, in ``jax.checkpoint`` and in a ``jax.vmap`` over the examples; in loops
    it is not found.

    Args:
        layer: ``{"kernel": [D, O], "bias": [O]}``, the latter if there is one.
        x: inputs, ``[..., D]``.
        path: where the layer is in the parameters, joined by ``/``: ``"head"`` for
            ``params["head"]``, ``"blocks/0"`` for ``params["blocks"]["0"]``.

    Returns:
        Outputs, ``[..., O]``.

    Raises:
        TypeError: a layer that is no such dictionary, or a path that is no string.
        ValueError: shapes that do not fit.
    """
    if not isinstance(layer, Mapping) or "kernel" not in layer:
        got = sorted(layer) if isinstance(layer, Mapping) else type(layer).__name__
        raise TypeError(
            f"layer must be {{'kernel': [D, O], 'bias': [O]}}, got {got} for the layer "
            f"{path!r}."
        )
    if not isinstance(path, str):
        raise TypeError(f"path must be a string such as 'head', got {path!r}.")
    kernel, bias = layer["kernel"], layer.get("bias")
    if kernel.ndim != 2 or x.ndim < 1 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"kernel must be [D, O] and x [..., D]; layer {path!r} has a kernel of "
            f"shape {kernel.shape} and is given {x.shape}."
        )
    if bias is not None and bias.shape != kernel.shape[1:]:
        raise ValueError(
            f"bias must be [O] = {kernel.shape[1:]}; layer {path!r} has {bias.shape}."
        )

    def product(x: Array) -> Array:
        out = x @ kernel
        return out if bias is None else out + jnp.broadcast_to(bias, out.shape)

    return mark_call(Layer(path, "dense", kernel.shape), product, (x,), {})
