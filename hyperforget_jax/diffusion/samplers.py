"""From noise to data: DDIM, ancestral DDPM and all that lies between."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from hyperforget_jax import checks
from hyperforget_jax.base import Array
from hyperforget_jax.diffusion.schedules import Schedule, check_alike, mix
from hyperforget_jax.keys import as_threefry

__all__ = ["DenoiseFn", "Trajectory", "sample", "step", "trajectory"]

DenoiseFn = Callable[[Any, Array], Any]
"""``(x_t, t) -> x0``: the estimate of the data, of the structure of ``x_t``."""


class Trajectory(NamedTuple):
    """All steps of a sampler; the sample is the last estimate.

    Attributes:
        t: the times, float32, ``[steps]``, from 1 down to ``1 / steps``.
        x_t: the denoiser's inputs, a pytree of ``[steps, ...]``.
        x0: its estimates of the data, a pytree of ``[steps, ...]``.
    """

    t: Array
    x_t: Any
    x0: Any


def step(
    x0: Any,
    x_t: Any,
    noise: Any,
    now: tuple[Array, Array],
    then: tuple[Array, Array],
    eta: Any = 0.0,
) -> Any:
    r"""Step from a time ``t`` to an earlier ``s``, given the estimate of the data.

    .. math::

        x_s = \alpha_s x_0 + \sqrt{\sigma_s^2 - \tau^2} \hat\epsilon + \tau z, \quad
        \tau = \eta \frac{\sigma_s}{\sigma_t} \sqrt{1 - \alpha_t^2 / \alpha_s^2}

    with the noise :math:`\hat\epsilon = (x_t - \alpha_t x_0) / \sigma_t` (Song et al.,
    Denoising diffusion implicit models, arXiv 2010.02502, 2021).

    Args:
        x0: the estimate, a pytree of float arrays.
        x_t: the noisy data, of the structure and shapes of ``x0``.
        noise: ``z``, standard normal, likewise; None where ``eta`` is zero.
        now: (alpha, sigma) at ``t``, sigma positive.
        then: (alpha, sigma) at ``s``, alpha positive.
        eta: 0 for DDIM; 1 draws from the posterior of DDPM.

    Returns:
        x_s, of the structure, shapes and dtypes of ``x0``.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, then
    # Of the noise at s, this share of the variance is new where eta is one:
    # 1 - alpha_t^2 sigma_s^2 / (alpha_s^2 sigma_t^2). Written so, tau^2 = eta^2
    # sigma_s^2 new, and nothing cancels where either of the two is nearly one.
    ratio = (alpha_t * sigma_s) / (alpha_s * sigma_t)
    new = jnp.maximum(1 - ratio**2, 0)
    kept = sigma_s / sigma_t * jnp.sqrt(1 - eta**2 * new)
    terms = {"x0": (alpha_s - kept * alpha_t, x0), "x_t": (kept, x_t)}
    if noise is not None:
        terms["noise"] = (eta * sigma_s * jnp.sqrt(new), noise)
    return mix(**terms)


def sample(
    key: Array,
    denoise: DenoiseFn,
    like: Any,
    schedule: Schedule,
    *,
    steps: int,
    eta: Any = 0.0,
) -> Any:
    """Draw one sample of the data.

    Starts with standard normal noise at time 1 and goes to time 0 in equal steps, each
    as :func:`step`. The last one returns the estimate itself, so one step alone gives
    ``denoise(noise, 1)``. Gradients pass through to what ``denoise`` closes over.

    Args:
        key: a typed key, consumed.
        denoise: ``(x_t, t) -> x0``, the estimate of the data, with ``t`` float32
            ``[]``; of the structure and shapes of ``like``.
        like: what one sample looks like, a pytree of float arrays or of
            ``jax.ShapeDtypeStruct``; values are not used.
        schedule: as by ``schedule(name)``; alpha and sigma positive inside (0, 1).
        steps: how often ``denoise`` is called, a positive integer, static.
        eta: in [0, 1]: 0 for DDIM, where noise is drawn for the start only (Song et
            al., arXiv 2010.02502, 2021), 1 for ancestral DDPM with the variance of
            the posterior (Ho et al., arXiv 2006.11239, 2020).

    Returns:
        The sample, of the structure, shapes and dtypes of ``like``.

    Raises:
        TypeError, ValueError: steps or eta out of range, or estimates that are not of
            the structure and shapes of ``like``.
    """
    return _sample(key, denoise, like, schedule, steps, eta, keep=False)[0]


def trajectory(
    key: Array,
    denoise: DenoiseFn,
    like: Any,
    schedule: Schedule,
    *,
    steps: int,
    eta: Any = 0.0,
) -> Trajectory:
    """Draw one sample as :func:`sample` does, with the same arguments; keep all steps.

    Returns:
        The trajectory; the last entries of its ``x0`` are the sample.
    """
    return _sample(key, denoise, like, schedule, steps, eta, keep=True)[1]


def _sample(key, denoise, like, schedule, steps, eta, *, keep) -> tuple[Any, Any]:
    key = as_threefry(key)
    checks.check_sizes(steps=steps)
    if checks.is_concrete(eta) and not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got eta={eta}.")
    # Without noise there is none to draw; a tracer may be anything.
    is_noisy = not (checks.is_concrete(eta) and eta == 0)
    key_start, key_steps = jax.random.split(key)
    times = jnp.asarray(1 - np.arange(steps) / steps, jnp.float32)
    now = jax.vmap(schedule)(times)
    # The last step ends in the estimate itself, whatever the schedule rounds to.
    then = tuple(
        jnp.append(levels[1:], jnp.asarray(end, levels.dtype))
        for levels, end in zip(now, (1, 0), strict=True)
    )
    keys = jax.random.split(key_steps, steps) if is_noisy else None

    def body(x, inputs):
        t, now, then, key = inputs
        x0 = denoise(x, t)
        check_alike(x, "like", x0, "what denoise returns")
        x0 = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), x0, x)
        noise = _normal(key, x) if is_noisy else None
        kept = Trajectory(t, x, x0) if keep else None
        return step(x0, x, noise, now, then, eta), kept

    return lax.scan(body, _normal(key_start, like), (times, now, then, keys))


def _normal(key: Array, like: Any) -> Any:
    return optax.tree.random_like(key, like, sampler=jax.random.normal)
