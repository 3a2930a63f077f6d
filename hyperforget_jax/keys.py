"""Keys that draw alike under every transformation.

Under ``vmap`` keys of ``rbg`` and ``unsafe_rbg`` draw from the first one alone, and
``fold_in`` of the latter commutes. So members of a population would not be the fits of
their own keys. Threefry keys do neither: whatever key is given, one of them is derived
from it, once, where it comes in.
"""

import math

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.checks import check_key

__all__ = ["as_threefry"]

_IMPL = "threefry2x32"


def as_threefry(
    key: Array, name: str = "key", *, shape: tuple[int, ...] | None = ()
) -> Array:
    """Derive a threefry key from a typed key of any implementation.

    A threefry key is its own. Different keys give different ones, short of a collision
    of 64 bits. What is no key of the shape (None for any) is refused by name.
    """
    check_key(key, name, shape=shape)
    if jax.random.key_impl(key) == _IMPL:
        return key
    words = jax.random.key_data(key).astype(jnp.uint32)

    def derive(words: Array) -> Array:
        derived = jax.random.key(0, impl=_IMPL)
        for word in words:
            derived = jax.random.fold_in(derived, word)
        return derived

    flat = words.reshape(math.prod(key.shape), words.shape[-1])
    return jax.vmap(derive)(flat).reshape(key.shape)
