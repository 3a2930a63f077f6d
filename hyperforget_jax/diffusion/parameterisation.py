"""What a denoiser is trained to give, and what it says of the data and the noise."""

from typing import Any

import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.diffusion.schedules import mix

__all__ = ["PREDICTIONS", "check_prediction", "target", "to_x0"]

PREDICTIONS = ("x0", "v", "eps")

# The least that alpha counts for where it divides.
_FLOOR = 1e-3


def check_prediction(kind: str) -> None:
    """Raises ValueError unless the kind of prediction is known."""
    if kind not in PREDICTIONS:
        raise ValueError(f"kind must be one of {PREDICTIONS}, got {kind!r}.")


def target(kind: str, x0: Any, noise: Any, alpha: Array, sigma: Array) -> Any:
    """What the network is to give for ``x_t = alpha * x0 + sigma * noise``.

    - ``"x0"``: the data.
    - ``"v"``: ``alpha * noise - sigma * x0`` (Salimans and Ho, Progressive distillation
      for fast sampling of diffusion models, arXiv 2202.00512, 2022).
    - ``"eps"``: the noise (Ho et al., arXiv 2006.11239, 2020).

    Args:
        kind: one of the above.
        x0: one sample of the data, a pytree of float arrays.
        noise: standard normal, of the structure and shapes of ``x0``.
        alpha: the signal's share at the time, float ``[]``.
        sigma: the noise's, float ``[]``; squares add up to one.

    Returns:
        The target, of the structure and shapes of ``x0``.

    Raises:
        ValueError: unknown kind, or data and noise that are mixed and do not match.
    """
    check_prediction(kind)
    if kind == "x0":
        return x0
    if kind == "eps":
        return noise
    return mix(noise=(alpha, noise), x0=(-sigma, x0))


def to_x0(kind: str, prediction: Any, x_t: Any, alpha: Array, sigma: Array) -> Any:
    """The estimate of the data that a prediction amounts to.

    Of ``"eps"`` it is ``(x_t - sigma * prediction) / alpha``, which has no limit where
    no signal is left: there the divisor is 1e-3, which keeps it finite and no more.
    Networks that are asked at ``alpha`` below 1e-3 should give ``"x0"`` or ``"v"``.

    Args:
        kind: what the network gave: ``"x0"``, ``"v"`` or ``"eps"``.
        prediction: what it gave, a pytree of float arrays.
        x_t: what it was given, of the structure and shapes of ``prediction``.
        alpha: the signal's share at the time, float ``[]``.
        sigma: the noise's, float ``[]``; squares add up to one.

    Returns:
        The estimate, of the structure and shapes of ``x_t``.

    Raises:
        ValueError: unknown kind, or trees that are mixed and do not match.
    """
    check_prediction(kind)
    if kind == "x0":
        return prediction
    if kind == "v":
        return mix(x_t=(alpha, x_t), prediction=(-sigma, prediction))
    divisor = jnp.maximum(alpha, _FLOOR)
    return mix(x_t=(1 / divisor, x_t), prediction=(-sigma / divisor, prediction))
