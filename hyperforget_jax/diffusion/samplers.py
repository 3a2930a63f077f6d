"""From noise to data by DDIM."""

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
    now: tuple[Array, Array],
    then: tuple[Array, Array],
) -> Any:
    r"""Step from a time ``t`` to an earlier ``s``, given the estimate of the data.

    .. math::

        x_s = \alpha_s x_0 + \sigma_s (x_t - \alpha_t x_0) / \sigma_t

    (Song et al., Denoising diffusion implicit models, arXiv 2010.02502, 2021).

    Args:
        x0: the estimate, a pytree of float arrays.
        x_t: the noisy data, of the structure and shapes of ``x0``.
        now: (alpha, sigma) at ``t``, sigma positive.
        then: (alpha, sigma) at ``s``.

    Returns:
        x_s, of the structure, shapes and dtypes of ``x0``.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, then
    kept = sigma_s / sigma_t
    return mix(x0=(alpha_s - kept * alpha_t, x0), x_t=(kept, x_t))


def sample(
    key: Array,
    denoise: DenoiseFn,
    like: Any,
    schedule: Schedule,
    *,
    steps: int,
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

    Returns:
        The sample, of the structure, shapes and dtypes of ``like``.

    Raises:
        TypeError, ValueError: steps out of range, or estimates that are not of
            the structure and shapes of ``like``.
    """
    return _sample(key, denoise, like, schedule, steps, keep=False)[0]


def trajectory(
    key: Array,
    denoise: DenoiseFn,
    like: Any,
    schedule: Schedule,
    *,
    steps: int,
) -> Trajectory:
    """Draw one sample as :func:`sample` does, with the same arguments; keep all steps.

    Returns:
        The trajectory; the last entries of its ``x0`` are the sample.
    """
    return _sample(key, denoise, like, schedule, steps, keep=True)[1]


def _sample(key, denoise, like, schedule, steps, *, keep) -> tuple[Any, Any]:
    key = as_threefry(key)
    checks.check_sizes(steps=steps)
    key_start, _ = jax.random.split(key)
    times = jnp.asarray(1 - np.arange(steps) / steps, jnp.float32)
    now = jax.vmap(schedule)(times)
    # The last step ends in the estimate itself, whatever the schedule rounds to.
    then = tuple(
        jnp.append(levels[1:], jnp.asarray(end, levels.dtype))
        for levels, end in zip(now, (1, 0), strict=True)
    )

    def body(x, inputs):
        t, now, then = inputs
        x0 = denoise(x, t)
        check_alike(x, "like", x0, "what denoise returns")
        x0 = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), x0, x)
        return step(x0, x, now, then), Trajectory(t, x, x0) if keep else None

    start = optax.tree.random_like(key_start, like, sampler=jax.random.normal)
    return lax.scan(body, start, (times, now, then))
