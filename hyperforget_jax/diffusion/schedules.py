"""Noise schedules, and the mixing of signal and noise.

Time runs from 0, the data, to 1, the noise. What is diffused is one sample, a pytree
of float arrays of any shapes; batches are the caller's ``vmap``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["SCHEDULES", "Schedule", "check_alike", "mix", "schedule"]

Schedule = Callable[[Array], tuple[Array, Array]]
"""From a time, float32 ``[]``, to (alpha, sigma), whose squares add up to one."""


def _cosine(t: Array) -> tuple[Array, Array]:
    t = jnp.asarray(t, jnp.float32)
    # The sine of the complement: it is zero at t = 1, and a float32 cosine negative.
    return jnp.sin(jnp.pi / 2 * (1 - t)), jnp.sin(jnp.pi / 2 * t)


def _linear(t: Array) -> tuple[Array, Array]:
    t = jnp.asarray(t, jnp.float32)
    spent = t * (0.1 + 19.9 / 2 * t)  # The integral of beta(t) = 0.1 + 19.9 t.
    variance = -jnp.expm1(-spent)
    # The root's slope at zero is infinite. Both branches have to be finite, or the
    # gradient is NaN.
    some = variance > 0
    sigma = jnp.where(some, jnp.sqrt(jnp.where(some, variance, 1)), 0)
    return jnp.exp(-spent / 2), sigma


_BY_NAME = {"cosine": _cosine, "linear": _linear}
SCHEDULES = tuple(_BY_NAME)


def schedule(name: str) -> Schedule:
    r"""Return a schedule by its name: a function of time that gives (alpha, sigma).

    - ``"cosine"``: :math:`\alpha = \cos(\pi t / 2)`, :math:`\sigma = \sin(\pi t / 2)`
      (Nichol and Dhariwal, Improved denoising diffusion probabilistic models,
      arXiv 2102.09672, 2021; without their offset). No signal at all is left at
      ``t = 1``.
    - ``"linear"``: :math:`\alpha^2 = \exp(-\int_0^t \beta)` with
      :math:`\beta(t) = 0.1 + 19.9 t`, the limit of infinitely many steps of the
      linear betas from 1e-4 to 0.02 in 1000 steps (Ho et al., arXiv 2006.11239, 2020;
      Song et al., arXiv 2011.13456, 2021). ``alpha`` is 0.0066 at ``t = 1``.

    Times are in [0, 1], float32 of any shape; alpha and sigma are float32 of the same
    shape, exactly 1 and 0 at ``t = 0``. Gradients with respect to time are finite on
    all of [0, 1] (at zero, ``"linear"``'s sigma has slope zero in place of infinity).

    Raises:
        ValueError: unknown name.
    """
    if name not in _BY_NAME:
        raise ValueError(f"schedule must be one of {SCHEDULES}, got {name!r}.")
    return _BY_NAME[name]


def check_alike(like: Any, first: str, tree: Any, name: str) -> None:
    """Raise ValueError unless both trees have one structure and the same shapes."""
    expected, got = (jax.tree.map(jnp.shape, each) for each in (like, tree))
    # Leaves would be broadcast, and the sum of two tokens pass for many.
    if jax.tree.structure(like) != jax.tree.structure(tree) or expected != got:
        raise ValueError(
            f"{name} must have the structure and the shapes of {first}, {expected}; "
            f"got {got}."
        )


def mix(**terms: tuple[Any, Any]) -> Any:
    """Sum weighted trees: ``mix(x0=(alpha, x0), noise=(sigma, noise))``.

    Sums are of float32 at least, and come in the dtypes of the first tree.

    Args:
        **terms: (weight, tree) under the name to be used in errors. Weights are
            floats, ``[]``; trees are pytrees of float arrays, all of one structure
            and with the same shapes.

    Raises:
        ValueError: trees that do not match.
    """
    (first, (_, like)), *others = terms.items()
    for name, (_, tree) in others:
        check_alike(like, first, tree, name)
    # A Python number would take on a leaf's bfloat16, and the sum with it.
    weights = [
        jnp.asarray(weight, jnp.result_type(weight, jnp.float32))
        for weight, _ in terms.values()
    ]

    def add(*leaves):
        total = sum(weight * leaf for weight, leaf in zip(weights, leaves, strict=True))
        return jnp.asarray(total, jnp.result_type(leaves[0]))

    return jax.tree.map(add, *(tree for _, tree in terms.values()))
