"""The dampening rule: shrink the parameters that matter to the forgotten."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["dampen"]


def dampen(
    params: Any,
    forget_fisher: Any,
    data_fisher: Any,
    *,
    alpha: float | Array,
    strength: float | Array,
) -> tuple[Any, Array]:
    r"""Selects and shrinks, parameter by parameter.

    .. math:: \theta_j \leftarrow \min(\lambda F_{D,j} / F_{f,j},\, 1)\, \theta_j
              \quad\text{where}\quad F_{f,j} > \alpha F_{D,j}

    Foster et al., Fast machine unlearning without retraining through selective
    synaptic dampening, arXiv 2308.07707, 2024, equations 4 and 5.

    Args:
        params: parameters.
        forget_fisher: ``F_f``, diagonal Fisher of the forget data, like ``params``.
        data_fisher: ``F_D``, that of the training data, like ``params``.
        alpha: selection threshold.
        strength: ``lambda``, how much of a selected parameter remains.

    Returns:
        The dampened parameters and the share of parameters selected, float32, ``[]``.
    """
    # Some operations take a square below the smallest normal number for zero, and some
    # do not: chosen by the one, it would be 0 / 0 to the other.
    normal = jnp.finfo(jnp.float32).tiny
    chosen = jax.tree.map(
        lambda f, d: (f > alpha * d) & (f >= normal), forget_fisher, data_fisher
    )

    def shrink(parameter, is_chosen, f, d):
        # Where a parameter is chosen f is positive: f > alpha * d >= 0.
        factor = jnp.minimum(strength * d / jnp.where(is_chosen, f, 1), 1)
        return jnp.where(is_chosen, factor * parameter, parameter)

    dampened = jax.tree.map(shrink, params, chosen, forget_fisher, data_fisher)
    leaves = jax.tree.leaves(chosen)
    selected = sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in leaves)
    return dampened, jnp.asarray(selected / sum(leaf.size for leaf in leaves))
