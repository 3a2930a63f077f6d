"""Squared gradients of single examples, summed over a microbatch.

Three ways to the same numbers. The gradient of a layer that is tapped follows from what
the layer was given and from the gradient with respect to what it gave: where that is
one outer product, its square is one too, and no gradient is ever formed. The head needs
no backward pass at all. All other leaves have their gradients from ``jax.vjp``, row by
row, in the same backward pass.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    Examples,
    Tap,
    Variables,
)
from hyperforget_jax.models.head import logits_layer
from hyperforget_jax.models.taps import rows_of, tap_shapes

__all__ = ["sum_of_squares"]

_EXACT = lax.Precision.HIGHEST

Leaves = dict[str, Array]
"""Leaves by their path."""


def sum_of_squares(
    classifier: Classifier, variables: Variables, part: Any, x: Array
) -> Callable[[Examples], Any]:
    """Return ``batch -> sum_i w_i g_i^2``, where ``g_i`` is an example's gradient.

    Args:
        classifier: the model, in evaluation mode.
        variables: its variables.
        part: the parameters in scope: ``params`` or nested dictionaries with some of
            them.
        x: inputs, ``[N, ...]``; only their shape and dtype are used.

    Returns:
        A pure function; what it gives is like ``part``, float32.
    """
    own, structure = trees.by_path(part), jax.tree.structure(part)
    calls = _tapped_layers(classifier, variables, own, x)
    covered = {f"{path}/{name}" for path in calls for name in ("kernel", "bias")}
    rest = {path: leaf for path, leaf in own.items() if path not in covered}
    head = logits_layer(calls) if len(calls) == 1 and not rest else None
    tapped: Any = classifier.tapped  # Where it is None no layer is tapped.

    def assemble(leaves: Leaves) -> Any:
        return structure.unflatten([leaves[path] for path in own])

    def run(shifts, rest: Leaves, x: Array):
        params = trees.overlay(variables["params"], assemble({**own, **rest}))
        laid = {**variables, "params": params}
        return tapped(laid, x, shifts) if shifts else (classifier.apply(laid, x), {})

    def measure(batch: Examples) -> Any:
        weight = batch.weight.astype(jnp.float32)
        if head is not None:
            return assemble(_of_head(tapped, variables, head, batch, weight))
        shapes = {p: [tap.output_shape for tap in taps] for p, taps in calls.items()}
        squares = _of_rows(run, variables["params"], shapes, rest, batch, weight)
        return assemble(squares)

    return measure


def _tapped_layers(classifier: Classifier, variables, scope, x: Array):
    """The taps of the layers in scope that are matrices times what they see."""
    if classifier.tapped is None:
        return {}
    taps = tap_shapes(classifier, variables, x)
    return {
        path: calls
        for path, calls in taps.items()
        if any(f"{path}/{name}" in scope for name in ("kernel", "bias"))
        and all(map(_is_product, calls))
    }


def _is_product(tap: Tap) -> bool:
    return tap.groups == 1 and all(size >= 0 for pair in tap.padding for size in pair)


def _of_rows(run, params, shapes, rest: Leaves, batch: Examples, weight) -> Leaves:
    """Squares of the tapped layers, and of the rest by gradients that are formed."""
    shifts = {
        path: tuple(jnp.zeros(shape, jnp.float32) for shape in calls)
        for path, calls in shapes.items()
    }

    def differentiate(row: Array, label: Array):
        # One row at a time: whatever axes a layer has, all are of this one example.
        of_row = functools.partial(run, x=row[None])
        logits, pull, taps = jax.vjp(of_row, shifts, rest, has_aux=True)
        residual = _residual(logits, label[None])
        return taps, *pull(residual.astype(logits.dtype))

    taps, outputs, gradients = jax.vmap(differentiate)(batch.x, batch.y)
    leaves = {path: _sum_of_squares(g, weight) for path, g in gradients.items()}
    for path, calls in taps.items():
        layer = trees.get(params, path)
        given = _by_place(calls, layer["kernel"].shape)
        # What a dense layer gives may have several axes, like its kernel.
        width = layer["kernel"].size // given.shape[-1]
        out = [g.reshape(g.shape[0], -1, width) for g in outputs[path]]
        leaves |= _of_layer(path, layer, given, jnp.concatenate(out, 1), weight)
    return leaves


def _of_head(tapped, variables, head: str, batch: Examples, weight) -> Leaves:
    """Squares of the head, from one forward pass."""
    logits, taps = tapped(variables, batch.x, {})
    squared = jnp.square(_residual(logits, batch.y))
    if OUTPUT_MASK in variables:  # The logit of a masked class is a constant.
        squared = jnp.where(variables[OUTPUT_MASK][None, :], 0, squared)
    given = _by_place(taps[head], ())[:, 0]
    layer = trees.get(variables["params"], head)
    return _of_products(head, layer, given, squared, weight)


def _of_layer(path, params, given: Array, out: Array, weight: Array) -> Leaves:
    """Squares of one layer that saw ``[N, P, K]`` and gave gradients ``[N, P, C]``."""
    out = out.astype(jnp.float32)
    if given.shape[1] == 1:
        return _of_products(path, params, given[:, 0], jnp.square(out[:, 0]), weight)
    # The places' gradients belong to one example: they are summed before the square.
    kernel = jnp.einsum("npk,npc->nkc", given, out, precision=_EXACT)
    bias = jnp.sum(out, axis=1)
    return _as_leaves(
        path, params, _sum_of_squares(kernel, weight), _sum_of_squares(bias, weight)
    )


def _sum_of_squares(gradients: Array, weight: Array) -> Array:
    squared = jnp.square(gradients.astype(jnp.float32))
    return jnp.tensordot(weight, squared, 1, precision=_EXACT)


def _of_products(path, params, given: Array, squared: Array, weight: Array) -> Leaves:
    """Squares where an example's gradient is one outer product: none is formed."""
    squared = weight[:, None] * squared
    kernel = jnp.matmul(jnp.square(given).T, squared, precision=_EXACT)
    return _as_leaves(path, params, kernel, jnp.sum(squared, axis=0))


def _as_leaves(path, params, kernel: Array, bias: Array) -> Leaves:
    """A layer's squares, ``[K, C]`` and ``[C]``, in the shapes of its parameters."""
    squares = {"kernel": kernel, "bias": bias}
    return {
        f"{path}/{name}": leaf.reshape(params[name].shape)
        for name, leaf in squares.items()
        if name in params
    }


def _by_place(calls: tuple[Tap, ...], kernel: tuple[int, ...]) -> Array:
    """What the kernel saw of each example at each place of each call, ``[N, P, K]``."""
    return jnp.concatenate([rows_of(tap, kernel, False)[0] for tap in calls], axis=1)


def _residual(logits: Array, y: Array) -> Array:
    """Gradient of the cross-entropy with respect to the logits, ``[N, C]``, float32."""
    p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    is_y = jnp.arange(p.shape[-1])[None, :] == y[:, None]
    return jnp.where(is_y, -_complement(p), p)


def _complement(p: Array) -> Array:
    """``1 - p`` to its own relative precision, also where ``p`` rounds to one."""
    largest = jnp.arange(p.shape[-1])[None, :] == jnp.argmax(p, axis=-1)[:, None]
    others = jnp.sum(jnp.where(largest, 0, p), axis=-1, keepdims=True)
    return jnp.where(largest, others, 1 - p)
