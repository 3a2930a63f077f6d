"""From noise to data: DDIM, ancestral DDPM and all that lies between."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from hyperforget_jax.base import Array
from hyperforget_jax.checks import is_concrete
from hyperforget_jax.diffusion.schedules import Schedule, mix
from hyperforget_jax.keys import as_threefry

__all__ = ["DenoiseFn", "Trajectory", "sample", "step", "trajectory"]

DenoiseFn = Callable[[Any, Array], Any]
"""``(x_t, t) -> x0``: the estimate of the data, of the structure of ``x_t``."""


class Trajectory(NamedTuple):
    """What a sampler went through; the sample is the last estimate.

    Attributes:
        t: the times, float32, ``[steps]``, from 1 down to ``1 / steps``.
        x_t: what the denoiser was given, a pytree of ``[steps, ...]``.
        x0: its estimates of the data, clipped, a pytree of ``[steps, ...]``.
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
    r"""One step from a time ``t`` to an earlier ``s``, given the estimate of the data.

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

    Raises:
        ValueError: trees that do not match.
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
    clip: Any = None,
) -> Any:
    """One sample of the data, from noise that is drawn.

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
        clip: estimates are clipped to ``[-clip, clip]``: one positive bound, or a
            pytree of them whose structure is that of ``like`` or a prefix of it. A
            bound that is an array has as many axes as its leaves, and is broadcast to
            them. None does not clip.

    Returns:
        The sample, of the structure, shapes and dtypes of ``like``.

    Raises:
        TypeError: ``like`` has leaves that are not floats.
        ValueError: steps, eta or clip out of range, bounds that do not fit, or
            estimates that are not of the structure and shapes of ``like``.
    """
    x, _ = _walk(key, denoise, like, schedule, steps, eta, clip, is_kept=False)
    return x


def trajectory(
    key: Array,
    denoise: DenoiseFn,
    like: Any,
    schedule: Schedule,
    *,
    steps: int,
    eta: Any = 0.0,
    clip: Any = None,
) -> Trajectory:
    """As :func:`sample`, and with the same key the same, but keeps all that was met.

    Args:
        key: a typed key, consumed.
        denoise: as for :func:`sample`.
        like: as for :func:`sample`.
        schedule: as for :func:`sample`.
        steps: as for :func:`sample`.
        eta: as for :func:`sample`.
        clip: as for :func:`sample`.

    Returns:
        The trajectory; the last entries of its ``x0`` are the sample.

    Raises:
        TypeError: as :func:`sample` does.
        ValueError: as :func:`sample` does.
    """
    _, kept = _walk(key, denoise, like, schedule, steps, eta, clip, is_kept=True)
    return kept


def _walk(
    key, denoise, like, schedule, steps, eta, clip, *, is_kept
) -> tuple[Any, Any]:
    """The sample, and the trajectory if it is to be kept."""
    key = as_threefry(key)
    _check(like, steps, eta)
    bounds = None if clip is None else _bounds(clip, like)
    # Without noise there is none to draw; a tracer may be anything.
    is_noisy = not (is_concrete(eta) and eta == 0)
    key_start, key_steps = jax.random.split(key)
    times = jnp.asarray(1 - np.arange(steps) / steps, jnp.float32)
    now = jax.vmap(schedule)(times)
    # The last step ends in the estimate itself, whatever the schedule rounds to.
    then = tuple(
        jnp.append(levels[1:], jnp.asarray(end, levels.dtype))
        for levels, end in zip(now, (1, 0), strict=True)
    )
    keys = jax.random.split(key_steps, steps) if is_noisy else None

    def body(x, at):
        t, now, then, key = at
        x0 = _estimate(denoise, x, t)
        if bounds is not None:
            x0 = jax.tree.map(_clip, x0, bounds)
        noise = _normal(key, x) if is_noisy else None
        kept = Trajectory(t, x, x0) if is_kept else None
        return step(x0, x, noise, now, then, eta), kept

    return lax.scan(body, _normal(key_start, like), (times, now, then, keys))


def _normal(key: Array, like: Any) -> Any:
    return optax.tree.random_like(key, like, sampler=jax.random.normal)


def _estimate(denoise: DenoiseFn, x: Any, t: Array) -> Any:
    x0 = denoise(x, t)
    given, wanted = (jax.tree.map(jnp.shape, tree) for tree in (x0, x))
    same = jax.tree.structure(x0) == jax.tree.structure(x)
    if not (same and given == wanted):
        raise ValueError(
            f"denoise must give the structure and the shapes of like, {wanted}; it "
            f"gives {given}."
        )
    return jax.tree.map(lambda leaf, as_: jnp.asarray(leaf, as_.dtype), x0, x)


def _clip(x: Array, bound: Any) -> Array:
    bound = jnp.asarray(bound, x.dtype)
    return jnp.clip(x, -bound, bound)


def _bounds(clip: Any, like: Any) -> Any:
    """The bounds, one a leaf of ``like``."""
    try:
        bounds = jax.tree.broadcast(clip, like)
    except ValueError as error:
        raise ValueError(
            "clip must be one bound or have the structure of like, "
            f"{jax.tree.structure(like)}; got {jax.tree.structure(clip)}."
        ) from error
    for bound, leaf in zip(jax.tree.leaves(bounds), jax.tree.leaves(like), strict=True):
        shape = jnp.shape(bound)
        fits = len(shape) == len(leaf.shape) and all(
            size in (1, wanted) for size, wanted in zip(shape, leaf.shape, strict=True)
        )
        if shape and not fits:
            raise ValueError(
                "clip must have bounds that are scalars or fit the leaves of like; got "
                f"shape {shape} for a leaf of shape {leaf.shape}."
            )
        if is_concrete(bound) and not np.all(np.asarray(bound) > 0):
            raise ValueError(f"clip must be positive, got clip={bound}.")
    return bounds


def _check(like: Any, steps: Any, eta: Any) -> None:
    """Raises unless the sampler's arguments make sense; tracers pass."""
    for leaf in jax.tree.leaves(like):
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if not (hasattr(leaf, "shape") and jnp.issubdtype(dtype, jnp.floating)):
            raise TypeError(
                "like must have float arrays (or jax.ShapeDtypeStruct) as leaves, got "
                f"one of {dtype}."
            )
    is_int = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
    if not (is_int and steps > 0):
        raise ValueError(
            f"steps must be a positive integer, known when compiling; got {steps!r}."
        )
    if is_concrete(eta) and not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got eta={eta}.")
