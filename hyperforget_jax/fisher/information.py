"""Diagonal Fishers: how each was made, their maximum, what is left, and dampening."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array
from hyperforget_jax.trees import leaf_paths

__all__ = ["Fisher", "check_comparable", "dampen", "maximum", "subtract", "without"]

# Some operations take a number below the smallest normal one for zero, and some do
# not: chosen by the one, it would be 0 / 0 to the other.
_NORMAL = jnp.finfo(jnp.float32).tiny


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fisher:
    """Diagonal Fisher information.

    How it was made is static, so that two kinds are never mixed, also under a trace.

    Attributes:
        values: like the parameters, or like the part of them that was in scope,
            float32, non-negative.
        total_weight: what they are a mean over: the sum of weights, or the number of
            minibatches that are not empty under ``"batch_gradient"``, float32, ``[]``.
        estimator: ``"per_example"`` or ``"batch_gradient"``.
        batch_size: rows of a minibatch under ``"batch_gradient"``, which it depends
            on; None under ``"per_example"``, which does not.
    """

    values: Any
    total_weight: Array
    estimator: str = dataclasses.field(metadata={"static": True})
    batch_size: int | None = dataclasses.field(metadata={"static": True})


# Users register the NamedTuples of states themselves, under names of their own; this is
# no NamedTuple.
export.register_pytree_node_serialization(
    Fisher,
    serialized_name="hyperforget_jax.fisher.Fisher",
    serialize_auxdata=lambda static: json.dumps(static).encode(),
    deserialize_auxdata=lambda static: tuple(json.loads(static)),
)


def check_comparable(first: Fisher, second: Fisher) -> None:
    """Raise ValueError unless two Fishers may be put into one ratio or one maximum.

    Nothing but shapes and static fields is looked at, so that traced ones are checked
    too. One of the two may be stacked along leading axes.

    Args:
        first: a Fisher.
        second: another.

    Raises:
        ValueError: mixed estimators or batch sizes; other parameters, or parameters of
            other shapes.
    """
    if _kind(first) != _kind(second):
        raise ValueError(
            f"mixed estimators: one Fisher is {_kind(first)}, the other "
            f"{_kind(second)}. Two are comparable if the estimator is the "
            "same, and the batch size too under 'batch_gradient'."
        )
    if jax.tree.structure(first.values) != jax.tree.structure(second.values):
        raise ValueError(
            "The Fishers cover different parameters: "
            f"{', '.join(leaf_paths(first.values))}; and "
            f"{', '.join(leaf_paths(second.values))}."
        )
    for path, one, other in zip(
        leaf_paths(first.values),
        map(np.shape, jax.tree.leaves(first.values)),
        map(np.shape, jax.tree.leaves(second.values)),
        strict=True,
    ):
        axes = min(len(one), len(other))
        if one[len(one) - axes :] != other[len(other) - axes :]:
            raise ValueError(
                f"The Fishers differ in shape at {path}: {one} and {other}."
            )


def _kind(fisher: Fisher) -> str:
    size = "" if fisher.batch_size is None else f", batch_size={fisher.batch_size}"
    return f"estimator={fisher.estimator!r}{size}"


def maximum(fishers: Fisher, reach: Array) -> Fisher:
    """Merge the Fishers of several roots: their maximum, parameter by parameter.

    The merged Fisher information matrix of arXiv 2408.08493. The published code also
    divides by a hand-tuned 5 for every root beyond the first; the formula does not.

    Args:
        fishers: stacked: ``values`` are ``[J, ...]``.
        reach: which roots count for which of M models, bool, ``[M, J]``. What does not
            count may be anything, NaN too.

    Returns:
        ``M`` Fishers, stacked; zero where no root counts. ``total_weight`` is the sum
        over the roots that count. No more than ``J + M`` Fishers are in memory.
    """
    num_models = reach.shape[0]

    def step(merged, root):
        values, counts = root

        def larger(so_far, new):
            wide = counts.reshape(num_models, *[1] * new.ndim)
            new = jnp.maximum(so_far, new[None].astype(jnp.float32))
            # Chosen, not multiplied by zero: zero times NaN is NaN.
            return jnp.where(wide, new, so_far)

        return jax.tree.map(larger, merged, values), None

    start = jax.tree.map(
        lambda leaf: jnp.zeros((num_models, *leaf.shape[1:]), jnp.float32),
        fishers.values,
    )
    values, _ = lax.scan(step, start, (fishers.values, reach.T))
    total = jnp.sum(jnp.where(reach, fishers.total_weight[None], 0), axis=1)
    return dataclasses.replace(fishers, values=values, total_weight=total)


def without(whole: Fisher, share: Fisher, weight: Array) -> Fisher:
    """Compute what is left of a Fisher when some examples are forgotten.

    Minibatches are not cut where requests are: under ``"batch_gradient"`` as many are
    taken out as the forgotten rows would fill. A row fills one place of a minibatch
    however much it weighs.

    Args:
        whole: the Fisher of all data.
        share: that of the data to be forgotten, which may have been taken at other
            variables, so that parts may exceed the whole: what would be negative is
            zero.
        weight: the forgotten data's weights, ``[F]``.

    Returns:
        The Fisher of what is left; all zero, its weight too, where nothing is, or where
        more is taken out than there was.

    Raises:
        ValueError: Fishers that are not comparable, or ``weight`` that is not ``[F]``.
    """
    check_comparable(whole, share)
    weight = jnp.asarray(weight)
    if weight.ndim != 1:
        raise ValueError(
            "weight must be [F], the weight of every forgotten row (forget.weight), "
            f"got shape {weight.shape}."
        )
    if whole.batch_size is None:
        gone = jnp.sum(weight, dtype=jnp.float32)
    else:
        gone = jnp.sum(weight > 0, dtype=jnp.float32) / whole.batch_size
    return subtract(whole, jax.tree.map(lambda leaf: leaf * gone, share.values), gone)


def subtract(whole: Fisher, squares: Any, gone: Array) -> Fisher:
    """Take a sum of squared gradients, of total weight ``gone``, out of a mean."""
    left = jnp.maximum(whole.total_weight - gone, 0)
    values = jax.tree.map(
        lambda d, f: jnp.where(
            left > 0,
            jnp.maximum(d * whole.total_weight - f, 0) / jnp.where(left > 0, left, 1),
            0,
        ),
        whole.values,
        squares,
    )
    return dataclasses.replace(whole, values=values, total_weight=left)


def dampen(
    params: Any,
    forget: Fisher,
    data: Fisher,
    *,
    alpha: float | Array,
    strength: float | Array,
    columns: Array | None = None,
    head: str = "",
) -> tuple[Any, Array]:
    r"""Select and shrink, parameter by parameter.

    .. math:: \theta_j \leftarrow
              \min(1, \lambda F_{D,j} / F_{f,j})\, \theta_j
              \quad\text{where}\quad F_{f,j} > \alpha F_{D,j}

    Foster et al., Fast machine unlearning without retraining through selective
    synaptic dampening, arXiv 2308.07707, 2024, equations 4 and 5; arXiv 2408.08493 for
    Fishers merged over several models.

    Args:
        params: parameters.
        forget: ``F_f``, diagonal Fisher of the forget data, like ``params`` or like a
            part of them; the other parameters stay what they are.
        data: ``F_D``, that of the training data, of the same parameters.
        alpha: selection threshold.
        strength: ``lambda``, how much of a selected parameter remains.
        columns: bool, ``[C]``: in the head only these outputs may be selected.
        head: path of the last layer, such as ``"Dense_1"``; with ``columns`` alone.

    Returns:
        The dampened parameters and how many were selected, as a share of all of
        ``params``, float32, ``[]``.

    Raises:
        ValueError: Fishers that are not comparable or do not fit ``params``.
    """
    check_comparable(forget, data)
    part = trees.matching(params, forget.values)
    for path, leaf in trees.by_path(part).items():
        shape = jnp.shape(trees.by_path(forget.values)[path])
        if jnp.shape(leaf) != shape:
            raise ValueError(
                f"forget.values must be like params: at {path} they have shape "
                f"{shape}, the parameters {jnp.shape(leaf)}."
            )
    allowed = jax.tree.map(lambda leaf: jnp.ones((1,) * jnp.ndim(leaf), bool), part)
    if columns is not None:
        own = jax.tree.map(
            lambda leaf: columns.reshape(*[1] * (leaf.ndim - 1), -1),
            trees.restrict(part, (head,)),
        )
        allowed = trees.overlay(allowed, own)
    chosen = jax.tree.map(
        lambda f, d, may: (f > alpha * d) & (f >= _NORMAL) & may,
        forget.values,
        data.values,
        allowed,
    )

    def shrink(parameter, is_chosen, f, d):
        # Where a parameter is chosen f is positive: f > alpha * d >= 0.
        ratio = strength * d / jnp.where(is_chosen, f, 1)
        shrunk = (jnp.minimum(ratio, 1) * parameter).astype(parameter.dtype)
        return jnp.where(is_chosen, shrunk, parameter)

    dampened = jax.tree.map(shrink, part, chosen, forget.values, data.values)
    selected = sum(_count(leaf) for leaf in jax.tree.leaves(chosen))
    total = sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
    return trees.overlay(params, dampened), jnp.asarray(selected / total)


def _count(chosen: Array) -> Array:
    """Count, float32: by eights first, for which XLA writes no mask as long as all."""
    flat = jnp.ravel(chosen)
    eights = jnp.pad(flat, (0, -flat.size % 8)).reshape(8, -1)
    return jnp.sum(jnp.sum(eights, axis=0, dtype=jnp.uint8), dtype=jnp.float32)
