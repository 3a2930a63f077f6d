"""Scales that cost no bit: a power of two for each leaf."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["power_of_two_scales"]

# Of normal float32 numbers whose reciprocals are normal too.
_EXPONENTS = (-126, 126)


@jax.jit
def power_of_two_scales(params: Any) -> Any:
    r"""Compute the power of two nearest to each leaf's root mean square.

    :math:`2^{\mathrm{round}(\log_2 \mathrm{rms})}`; 1 for a leaf that is zero, empty or
    not finite. Division by a power of two only changes exponents, so what is scaled
    down comes back to the bit.

    Args:
        params: a pytree of floating-point arrays, such as the stacked parameters of a
            population, leaves ``[P, ...]``, or differences of such.

    Returns:
        Scalars, float32, in the same structure.
    """
    return jax.tree.map(_scale, params)


def _scale(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf).astype(jnp.float32)
    # The squares alone could overflow, or vanish.
    largest = jnp.max(jnp.abs(leaf), initial=0.0)
    usable = (largest > 0) & jnp.isfinite(largest)
    largest = jnp.where(usable, largest, 1)
    mean = jnp.sum(jnp.square(leaf / largest)) / max(leaf.size, 1)
    exponent = jnp.round(jnp.log2(largest) + jnp.log2(mean) / 2)
    exponent = jnp.where(usable, exponent, 0).clip(*_EXPONENTS)
    return jnp.ldexp(jnp.float32(1), exponent.astype(jnp.int32))
