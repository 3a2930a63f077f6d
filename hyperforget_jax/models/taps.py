"""What every dense and convolutional layer was given, and how it acts on the logits."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Tap, Variables
from hyperforget_jax.models.marks import Mark, replay, trace

__all__ = ["Marked", "tap", "taps_of"]

Marked = Callable[[Variables, Array], Array]
"""``(variables, x) -> logits``: a model whose layers are marked."""


def taps_of(
    marked: Marked, variables: Variables, x: Array
) -> dict[str, tuple[Tap, ...]]:
    """Compute the inputs of every marked layer, by parameter path.

    Args:
        marked: the model.
        variables: its variables.
        x: inputs, ``[N, ...]``.

    Returns:
        ``{"Block_0/Conv_0": (tap, ...)}``: one tap a call, in order, so that a layer
        called twice has two. Paths are those of the parameters, joined by ``/``.
    """
    return _read(marked, variables, x, {})[1]


def tap(
    marked: Marked,
    variables: Variables,
    x: Array,
    shifts: Mapping[str, tuple[Array, ...]],
) -> tuple[Array, dict[str, tuple[Tap, ...]]]:
    """Compute logits and taps, with something added to the outputs of some layers.

    Args:
        marked: the model, of which layers are marked that are a product of their input
            and their kernel.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        shifts: what is added to a layer's outputs, by parameter path, one array a call.

    Returns:
        The logits, and the taps of the layers in ``shifts``; if that is empty, of every
        marked layer whose parameters act through its calls and in no other way. Layers
        within loops (``nn.scan``) and layers whose kernels are mapped over
        (``nn.vmap``) are left out.
    """
    logits, taps, elsewhere = _read(marked, variables, x, shifts)
    if shifts:
        return logits, {path: taps[path] for path in taps if path in shifts}
    return logits, {path: taps[path] for path in taps if path not in elsewhere}


def _read(marked: Marked, variables: Variables, x: Array, shifts):
    """Logits, the taps of all layers that one can read, and those used elsewhere."""
    params = variables["params"]
    others = {name: value for name, value in variables.items() if name != "params"}
    traced = trace(
        lambda params, others, x: marked({**others, "params": params}, x),
        params,
        others,
        x,
    )
    shapes = _kernel_shapes(params)
    given: dict[str, tuple[Mark, Array, int]] = {}
    numbers = itertools.count()
    outputs: dict[str, list[Array]] = {}
    taps: dict[str, list[Tap]] = {}
    unread: set[str] = set()

    def visit(mark: Mark, array: Array) -> Array:
        layer = mark.layer
        if not mark.ends:
            given[layer.path] = mark, array, next(numbers)
            return array
        begun, seen, call = given.pop(layer.path)
        # A kernel that is mapped over is many. Examples may be mapped over: their axis
        # comes first then, as it should.
        fits = shapes.get(layer.path) == layer.kernel and begun.mapped == mark.mapped
        if not fits or (mark.mapped and array.shape[:1] != x.shape[:1]):
            unread.add(layer.path)
            return array
        if layer.path in shifts:
            number = len(outputs.get(layer.path, ()))
            array = array + shifts[layer.path][number].astype(array.dtype)
        taps.setdefault(layer.path, []).append(_tap(mark, seen, array.shape, call))
        outputs.setdefault(layer.path, []).append(array)
        return array

    logits: Any = replay(traced, (params, others, x), visit)
    known = {
        path: tuple(
            dataclasses.replace(tap, gives_logits=out is logits)
            for tap, out in zip(calls, outputs[path], strict=True)
        )
        for path, calls in taps.items()
        if path not in unread
    }
    return logits, known, traced.elsewhere


def _tap(mark: Mark, given: Array, output_shape: tuple[int, ...], call: int) -> Tap:
    layer = mark.layer
    if layer.kind == "dense":
        kept = given.shape[: given.ndim - layer.contracted]
        given = given.reshape(*kept, math.prod(given.shape[len(kept) :]))
    return Tap(
        given,
        layer.kind,
        strides=layer.strides,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        output_shape=output_shape,
        call=call,
    )


def _kernel_shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the kernels, by the path of their layer."""
    return {
        path.rpartition("/")[0]: jnp.shape(leaf)
        for path, leaf in trees.by_path(params).items()
        if path.rpartition("/")[2] == "kernel"
    }
