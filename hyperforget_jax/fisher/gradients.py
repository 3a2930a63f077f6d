"""Squared gradients of single examples, summed over a microbatch.

Three ways to the same numbers. The gradient of a layer that is tapped follows from what
the layer was given and from the gradient with respect to what it gave: where that is
one outer product, its square is one too, and no gradient is ever formed. The head needs
no backward pass at all. All other leaves have their gradients from ``jax.vjp``, row by
row, in the same backward pass.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
    TappedFn,
    Variables,
)
from hyperforget_jax.models.head import logits_layer
from hyperforget_jax.models.layer_inputs import rows_of
from hyperforget_jax.trees import leaf_paths, overlay

__all__ = ["LABELS", "sum_of_squares"]

LABELS = ("given", "model")
_EXACT = lax.Precision.HIGHEST

Leaves = dict[str, Array]
"""Leaves by their path."""


class _Plan(NamedTuple):
    """Which leaves go which way.

    Attributes:
        calls: output shapes of each tapped layer's calls, for one row.
        head: the one layer in scope if its outputs are the logits, or None.
        rest: the leaves in scope that no tapped layer has.
    """

    calls: dict[str, tuple[tuple[int, ...], ...]]
    head: str | None
    rest: list[str]


def sum_of_squares(
    classifier: Classifier,
    variables: Variables,
    part: Any,
    x: Array,
    *,
    labels: str,
) -> Callable[[Examples], Any]:
    """Makes ``batch -> sum_i w_i g_i^2``, where ``g_i`` is an example's gradient.

    Args:
        classifier: the model, in evaluation mode.
        variables: its variables.
        part: the parameters in scope: ``params`` or nested dictionaries with some of
            them.
        x: inputs, ``[N, ...]``; only their shape and dtype are used.
        labels: ``"given"``, or ``"model"`` for the expectation over the labels that
            the model itself would draw.

    Returns:
        A pure function; what it gives is like ``part``, float32.
    """
    paths, structure = leaf_paths(part), jax.tree.structure(part)
    plan = _plan(classifier, variables, paths, x)
    own = dict(zip(paths, jax.tree.leaves(part), strict=True))
    rest = {path: own[path] for path in plan.rest}
    tapped: Any = classifier.tapped  # Where it is None the plan has no use for it.

    def assemble(leaves: Leaves) -> Any:
        return structure.unflatten([leaves[path] for path in paths])

    def run(shifts, rest: Leaves, x: Array):
        params = overlay(variables["params"], assemble({**own, **rest}))
        laid = {**variables, "params": params}
        return tapped(laid, x, shifts) if shifts else (classifier.apply(laid, x), {})

    def measure(batch: Examples) -> Any:
        weight = batch.weight.astype(jnp.float32)
        if plan.head is not None:
            return assemble(
                _of_head(tapped, variables, plan.head, batch, labels, weight)
            )
        squares = _of_rows(run, variables["params"], plan.calls, rest, batch.x)
        if labels == "given":
            return assemble(squares(batch.y, weight))
        logits = classifier.apply(variables, batch.x)
        return assemble(_expected(squares, logits, weight))

    return measure


def _plan(classifier: Classifier, variables, paths: list[str], x: Array) -> _Plan:
    tapped = classifier.tapped
    if tapped is None:
        return _Plan({}, None, paths)
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    taps = jax.eval_shape(lambda v, x: tapped(v, x, {})[1], variables, row)
    known = {
        path: calls
        for path, calls in taps.items()
        if {f"{path}/kernel", f"{path}/bias"} & set(paths)
        if all(map(_is_product, calls))
    }
    covered = {f"{path}/{name}" for path in known for name in ("kernel", "bias")}
    rest = [path for path in paths if path not in covered]
    head = logits_layer(known) if len(known) == 1 and not rest else None
    shapes = {
        path: tuple(tap.output_shape for tap in calls) for path, calls in known.items()
    }
    return _Plan(shapes, head, rest)


def _is_product(tap: Tap) -> bool:
    """Whether the layer is one matrix times what it sees at each place."""
    return tap.groups == 1 and all(size >= 0 for pair in tap.padding for size in pair)


def _expected(
    squares: Callable[[Array, Array], Leaves], logits: Array, weight: Array
) -> Leaves:
    """The expectation of ``squares`` over labels that follow ``logits``."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    y = jnp.zeros(logits.shape[0], jnp.int32)

    def add(total, label):
        more = squares(jnp.full_like(y, label), weight * probabilities[:, label])
        return jax.tree.map(jnp.add, total, more), None

    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(squares, y, weight),
    )
    return lax.scan(add, zeros, jnp.arange(logits.shape[-1]))[0]


def _of_rows(
    run: Callable[..., tuple[Array, Mapping[str, tuple[Tap, ...]]]],
    params: Any,
    shapes: Mapping[str, tuple[tuple[int, ...], ...]],
    rest: Leaves,
    x: Array,
) -> Callable[[Array, Array], Leaves]:
    """Makes ``(y, weight) -> squares``: of the tapped layers and of the rest.

    Args:
        run: ``(shifts, rest, x) -> (logits, taps)``.
        params: the parameters.
        shapes: output shapes of the tapped layers' calls, for one row.
        rest: the leaves that have their gradients formed.
        x: inputs, ``[N, ...]``.
    """
    shifts = {
        path: tuple(jnp.zeros(shape, jnp.float32) for shape in calls)
        for path, calls in shapes.items()
    }

    def differentiate(row: Array, label: Array):
        # One row at a time: whatever axes a layer has, all are of this one example.
        logits, pull, taps = jax.vjp(
            lambda shifts, rest: run(shifts, rest, row[None]),
            shifts,
            rest,
            has_aux=True,
        )
        residual = _residual(logits, label[None])
        return taps, *pull(residual.astype(logits.dtype))

    def squares(y: Array, weight: Array) -> Leaves:
        taps, outputs, gradients = jax.vmap(differentiate)(x, y)
        leaves = {path: _sum_of_squares(g, weight) for path, g in gradients.items()}
        for path, calls in taps.items():
            layer = trees.get(params, path)
            given = _by_place(calls, layer["kernel"].shape)
            # What a dense layer gives may have several axes, like its kernel.
            width = layer["kernel"].size // given.shape[-1]
            out = [g.reshape(g.shape[0], -1, width) for g in outputs[path]]
            leaves |= _of_layer(path, layer, given, jnp.concatenate(out, 1), weight)
        return leaves

    return squares


def _of_head(
    tapped: TappedFn,
    variables: Variables,
    head: str,
    batch: Examples,
    labels: str,
    weight: Array,
) -> Leaves:
    """Squares of the head from one forward pass, also over the model's labels."""
    logits, taps = tapped(variables, batch.x, {})
    if labels == "given":
        squared = jnp.square(_residual(logits, batch.y))
    else:
        # sum_c p_c (p_k - [k = c])^2 = p_k (1 - p_k)
        p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
        squared = p * _complement(p)
    if OUTPUT_MASK in variables:  # The logit of a masked class is a constant.
        squared = jnp.where(variables[OUTPUT_MASK][None, :], 0, squared)
    given = _by_place(taps[head], ())[:, 0]
    return _of_products(
        head, trees.get(variables["params"], head), given, squared, weight
    )


def _of_layer(path, params, given: Array, out: Array, weight: Array) -> Leaves:
    """Squares of one layer.

    Args:
        path: of the layer.
        params: the layer's parameters.
        given: what the kernel saw, ``[N, P, K]`` at ``P`` places of all calls.
        out: the gradient with respect to what it gave there, ``[N, P, C]``.
        weight: ``[N]``.
    """
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
    """Squares where an example's gradient is an outer product: no gradient is formed.

    Args:
        path: of the layer.
        params: the layer's parameters.
        given: what the kernel saw, ``[N, K]``.
        squared: squared gradients with respect to what it gave, ``[N, C]``.
        weight: ``[N]``.
    """
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
