"""The dampening rule: shrink the parameters that matter to the forgotten."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.fisher.information import Fisher, check_comparable
from hyperforget_jax.trees import leaf_paths, matching, overlay, restrict

__all__ = ["dampen"]

# Some operations take a number below the smallest normal one for zero, and some do
# not: chosen by the one, it would be 0 / 0 to the other.
_NORMAL = jnp.finfo(jnp.float32).tiny


def dampen(
    params: Any,
    forget: Fisher,
    data: Fisher,
    *,
    alpha: float | Array,
    strength: float | Array,
    columns: Array | None = None,
    head: str | None = None,
) -> tuple[Any, Array]:
    r"""Selects and shrinks, parameter by parameter.

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
        ValueError: Fishers that are not comparable or do not fit ``params``;
            ``columns`` without ``head`` or the reverse, or without that head's Fisher.
    """
    check_comparable(forget, data)
    part = matching(params, forget.values)
    _check_fit(part, forget, "forget")
    _check_fit(part, data, "data")
    allowed = _allowed(part, columns, head)
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
    selected = sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(chosen))
    total = sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
    return overlay(params, dampened), jnp.asarray(selected / total)


def _along_last(columns: Array, ndim: int) -> Array:
    return jnp.reshape(columns, (1,) * (ndim - 1) + (-1,))


def _check_fit(part: Any, fisher: Fisher, name: str) -> None:
    paths = leaf_paths(part)
    leaves, values = jax.tree.leaves(part), jax.tree.leaves(fisher.values)
    for path, leaf, value in zip(paths, leaves, values, strict=True):
        if jnp.shape(leaf) != jnp.shape(value):
            raise ValueError(
                f"{name}.values must be like params: at {path} they have shape "
                f"{jnp.shape(value)}, the parameters {jnp.shape(leaf)}."
            )


def _allowed(part: Any, columns: Array | None, head: str | None) -> Any:
    """Which parameters may be selected, like ``part``."""
    everywhere = jax.tree.map(lambda leaf: jnp.ones((1,) * jnp.ndim(leaf), bool), part)
    if columns is None and head is None:
        return everywhere
    if columns is None or head is None:
        raise ValueError(
            "columns and head go together: which outputs of which layer may be "
            f"selected; got columns={columns}, head={head!r}."
        )
    columns = jnp.asarray(columns, bool)

    def within(leaf):
        if columns.shape != leaf.shape[-1:]:
            raise ValueError(
                f"columns must be [C] with C={leaf.shape[-1]} outputs of {head}, got "
                f"shape {columns.shape}."
            )
        return _along_last(columns, leaf.ndim)

    return overlay(everywhere, jax.tree.map(within, restrict(part, (head,))))
