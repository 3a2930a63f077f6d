"""What every dense and convolutional layer was given, and how it acts on the logits."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Classifier, Tap, Variables
from hyperforget_jax.models.convolution import patches
from hyperforget_jax.models.marks import Mark, replay, trace
from hyperforget_jax.user_warnings import warn_user

__all__ = [
    "Marked",
    "pad",
    "rows_of",
    "tap",
    "tap_shapes",
    "untapped_layers",
    "warn_of_untapped",
]

Marked = Callable[[Variables, Array], Array]
"""``(variables, x) -> logits``: a model whose layers are marked."""

# What Flax calls parameters that no input is multiplied with as by a matrix.
_NO_KERNELS = ("bias", "embedding", "scale")


def tap(
    marked: Marked,
    variables: Variables,
    x: Array,
    shifts: Mapping[str, tuple[Array, ...]],
    *,
    every: bool = False,
) -> tuple[Array, dict[str, tuple[Tap, ...]]]:
    """Compute logits and taps, with something added to the outputs of some layers.

    Args:
        marked: the model.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        shifts: what is added to a layer's outputs, by parameter path, one array a call.
        every: whether to give the taps of every layer, also of those whose parameters
            act in other ways than through their calls (tied weights).

    Returns:
        The logits, and the taps of the layers in ``shifts``, or of all if that is
        empty: ``{"Block_0/Conv_0": (tap, ...)}``, one tap a call, in order. Layers
        within loops (``nn.scan``) and layers whose kernels are mapped over
        (``nn.vmap``) are left out.
    """
    traced = trace(marked, variables, x)
    kernels = {
        path.rpartition("/")[0]: jnp.shape(leaf)
        for path, leaf in trees.by_path(variables["params"]).items()
        if path.rpartition("/")[2] == "kernel"
    }
    given: dict[str, tuple[Mark, Array, int]] = {}
    outputs: dict[str, list[Array]] = {}
    taps: dict[str, list[Tap]] = {}
    unread: set[str] = set()
    numbers = itertools.count()

    def visit(mark: Mark, array: Array) -> Array:
        layer = mark.layer
        if not mark.ends:
            given[layer.path] = mark, array, next(numbers)
            return array
        start, seen, number = given.pop(layer.path)
        # A kernel that is mapped over is many. Examples may be mapped over: their axis
        # comes first then, as it should.
        fits = kernels.get(layer.path) == layer.kernel and start.mapped == mark.mapped
        if not fits or (mark.mapped and array.shape[:1] != x.shape[:1]):
            unread.add(layer.path)
            return array
        calls = outputs.setdefault(layer.path, [])
        if layer.path in shifts:
            array = array + shifts[layer.path][len(calls)].astype(array.dtype)
        calls.append(array)
        taps.setdefault(layer.path, []).append(_tap(mark, seen, array.shape, number))
        return array

    logits: Any = replay(traced, (variables, x), visit)
    wanted = set(shifts) or taps.keys() - (set() if every else traced.elsewhere)
    known = {
        path: tuple(
            dataclasses.replace(tap, gives_logits=out is logits)
            for tap, out in zip(calls, outputs[path], strict=True)
        )
        for path, calls in taps.items()
        if path in wanted - unread
    }
    return logits, known


def tap_shapes(
    classifier: Classifier, variables: Variables, x: Array
) -> dict[str, tuple[Tap, ...]]:
    """Find the taps of one row, in whose arrays' places stand shapes.

    Of a ``tapped`` model those of the layers whose parameters act through their calls
    alone; none of a model without taps. Of ``x`` only shape and dtype are used.
    """
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    tapped, taps = classifier.tapped, classifier.taps
    if tapped is not None:
        return jax.eval_shape(lambda v, x: tapped(v, x, {})[1], variables, row)
    return {} if taps is None else jax.eval_shape(taps, variables, row)


def untapped_layers(
    classifier: Classifier, variables: Variables, x: Array
) -> list[str]:
    """List the kernels of layers that no tap covers.

    A method that moves layers through their taps (``hf.pgu``) leaves them as they are:
    layers within loops (``nn.scan``, ``nnx.scan``), layers that are stacked and mapped
    over (``nn.vmap``), subclasses and layers with a product of their own, kernels that
    are used elsewhere too (tied weights), and what a plain function does not name.

    Args:
        classifier: the model.
        variables: its variables.
        x: inputs, ``[N, ...]``; only shape and dtype are used.

    Returns:
        Paths of parameters, such as ``"blocks/kernel"``, in order. Kernels are
        parameters that are called so, and others of two or more axes; embedding tables
        and parameters that are shared by all rows (``[1, ...]``) are none.
    """
    known, found = tap_shapes(classifier, variables, x), []
    for name, leaf in trees.by_path(variables["params"]).items():
        path, _, last = name.rpartition("/")
        wide = len(leaf.shape) >= 2 and leaf.shape[0] > 1 and last not in _NO_KERNELS
        if path not in known and (last == "kernel" or wide):
            found.append(name)
    return found


def warn_of_untapped(
    classifier: Classifier, variables: Variables, x: Array, method: str
) -> None:
    """Warn of the kernels that a method will not move, by their paths."""
    left = untapped_layers(classifier, variables, x)
    if left:
        name = classifier.description or "the classifier"
        warn_user(
            f"{method} will not move {', '.join(left)}: no tap covers these kernels of "
            f"{name} (layers within scan or vmap, subclasses of Flax's layers, tied "
            "weights, and what a function does not compute with hf.models.dense).",
        )


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


def rows_of(tap: Tap, kernel_shape: Sequence[int], bias: bool) -> Array:
    """Return what the kernel saw of each example at each place of one call.

    The rows times the layer's matrix are what the layer gave, place by place; the
    outputs of the groups lie side by side.

    Args:
        tap: of one call, input ``[N, ..., features]``.
        kernel_shape: shape of the layer's kernel, ``[*window, C / G, O]`` for a
            convolution; a dense layer's is not looked at.
        bias: whether the layer has a bias: every row then ends with a one, so that the
            bias is one more row of the layer's matrix.

    Returns:
        Rows, float32, ``[G, N, P, D]``: ``G`` feature groups, ``P`` places, in HWIO
        order as the kernel is. Negative padding crops, as it does for the layer.
    """
    num_rows, axes = tap.input.shape[0], len(tap.strides)
    given = tap.input.astype(jnp.float32)
    # The channels of a group lie side by side.
    given = given.reshape(*given.shape[:-1], tap.groups, -1)
    given = jnp.moveaxis(given, -2, 0)
    if tap.kind == "conv":
        images = pad(given.reshape(-1, *given.shape[-1 - axes :]), tap.padding)
        window, kept = kernel_shape[:axes], ((0, 0),) * axes
        given = patches(images, window, tap.strides, kept, tap.dilation)
    rows = given.reshape(tap.groups, num_rows, -1, given.shape[-1])
    if not bias:
        return rows
    return jnp.concatenate([rows, jnp.ones((*rows.shape[:-1], 1), rows.dtype)], axis=-1)


def pad(x: Array, padding: Sequence[tuple[int, int]]) -> Array:
    """Surround images with zeros, or crops them.

    Args:
        x: images, ``[N, *spatial, C]``.
        padding: ``(low, high)`` a spatial axis; what is negative is cut off.
    """
    margins = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), margins)
