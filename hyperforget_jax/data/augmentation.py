"""Random crops and flips that depend on the example and on nothing around it."""

import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperforget_jax.base import Array
from hyperforget_jax.checks import check_is

__all__ = ["crop_and_flip"]


def crop_and_flip(
    seed: int = 0, *, padding: int = 4, flip: bool = True
) -> Callable[[Array, Array, Array | int], Array]:
    """Shift images by a few pixels and mirror them, at random.

    What happens to an image is a function of the seed, the example's id and the
    epoch: the same in any batch, at any place in it, on any device count. A
    model retrained without some examples sees the others exactly as before.

    Args:
        seed: which of the augmentations.
        padding: the largest shift in each direction, in pixels. What is shifted in is
            zero, which is the mean colour of normalised images.
        flip: whether every second image, on average, is mirrored left to right.

    Returns:
        ``augment(x, id, epoch) -> x`` for inputs ``[N, H, W, C]``, ids ``[N]`` and the
        number of the epoch, an integer or one for each example, ``[N]``.

    Raises:
        TypeError: a seed or a padding that is no whole number, a flip that is no bool.
        ValueError: a negative padding.
    """
    check_is(numbers.Integral, "a whole number", seed=seed, padding=padding)
    check_is((bool, np.bool_), "True or False", flip=flip)
    if padding < 0:
        raise ValueError(f"padding must be non-negative, got {padding}.")

    def augment(x: Array, id: Array, epoch: Array | int) -> Array:
        if x.ndim != 4:
            raise ValueError(f"x must be images [N, H, W, C], got shape {x.shape}.")
        margin = (padding, padding)
        padded = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))

        def augment_one(image: Array, id: Array, epoch: Array) -> Array:
            key = jax.random.fold_in(
                jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), id), epoch
            )
            key_crop, key_flip = jax.random.split(key)
            top, left = jax.random.randint(key_crop, (2,), 0, 2 * padding + 1)
            image = lax.dynamic_slice(image, (top, left, 0), x.shape[1:])
            mirrored = flip & jax.random.bernoulli(key_flip)
            return jnp.where(mirrored, image[:, ::-1], image)

        epochs = jnp.broadcast_to(epoch, id.shape)
        return jax.vmap(augment_one)(padded, id, epochs)

    return augment
