"""What a denoiser is trained to predict, and the data that follow from it."""

from typing import Any

import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.checks import check_one_of
from hyperforget_jax.diffusion.schedules import mix

__all__ = ["PREDICTIONS", "target", "to_x0"]

PREDICTIONS = ("x0", "v", "eps")

# The least that alpha counts for where it divides.
_FLOOR = 1e-3


def target(kind: str, x0: Any, noise: Any, alpha: Array, sigma: Array) -> Any:
    """Compute what the network is to predict for ``alpha * x0 + sigma * noise``.

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

    Raises:
        ValueError: unknown kind, or data and noise that are mixed and do not match.
    """
    check_one_of("kind", kind, PREDICTIONS)
    if kind == "x0":
        return x0
    if kind == "eps":
        return noise
    return mix(noise=(alpha, noise), x0=(-sigma, x0))


def to_x0(kind: str, prediction: Any, x_t: Any, alpha: Array, sigma: Array) -> Any:
    """Estimate the data from a prediction: undo :func:`target`.

    Of ``"eps"`` it is ``(x_t - sigma * prediction) / alpha``, which has no limit where
    no signal is left: there the divisor is 1e-3, which keeps it finite and no more.
    Networks that are asked at ``alpha`` below 1e-3 should predict ``"x0"`` or ``"v"``.

    ``x_t`` is the network's input; other arguments are as for :func:`target`.
    """
    check_one_of("kind", kind, PREDICTIONS)
    if kind == "x0":
        return prediction
    if kind == "v":
        return mix(x_t=(alpha, x_t), prediction=(-sigma, prediction))
    divisor = jnp.maximum(alpha, _FLOOR)
    return mix(x_t=(1 / divisor, x_t), prediction=(-sigma / divisor, prediction))
