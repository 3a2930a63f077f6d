"""Pixels as zero-mean floats, by constants that are fixed for each data set.

Statistics computed from the rows at hand would leak the forgotten ones into every
model, so none are: the constants below are the published figures of the training
files (for ``digits``, of all its rows) and stay as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array

__all__ = ["KNOWN", "Normalisation", "normalisation_of", "normalise"]


class Normalisation(NamedTuple):
    """How pixels become floats: ``(pixel / largest - mean) / std``.

    Attributes:
        largest: the largest pixel value there can be.
        mean: of pixels in [0, 1]; one number a channel, or one for all.
        std: of pixels in [0, 1]; likewise.
    """

    largest: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


KNOWN = {
    "cifar10": Normalisation(255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Normalisation(
        255.0, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    ),
    "digits": Normalisation(16.0, (0.3053,), (0.3760,)),
    "fashion_mnist": Normalisation(255.0, (0.2860,), (0.3530,)),
    "kmnist": Normalisation(255.0, (0.1918,), (0.3483,)),
    "mnist": Normalisation(255.0, (0.1307,), (0.3081,)),
    "svhn_cropped": Normalisation(
        255.0, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    ),
}
_ANY_OTHER = Normalisation(255.0, (0.5,), (0.5,))


def normalisation_of(name: str) -> Normalisation:
    """Look up the constants of a data set; those not in KNOWN get 0.5 and 0.5."""
    return KNOWN.get(name.split(":")[0], _ANY_OTHER)


def normalise(images: np.ndarray, constants: Normalisation) -> Array:
    """Make float32 of uint8 pixels ``[N, H, W, C]``, on the device.

    So a quarter of the bytes travel, and it is the only float copy that is made.
    """
    # Divided in double precision, once, so that a pixel costs one product and one sum.
    mean, std = np.array(constants.mean), np.array(constants.std)
    scale, offset = 1 / (constants.largest * std), mean / std
    channels = (1, 1, 1, -1)
    return _scale(
        images,
        scale.astype(np.float32).reshape(channels),
        offset.astype(np.float32).reshape(channels),
    )


@jax.jit
def _scale(images: Array, scale: Array, offset: Array) -> Array:
    return images.astype(jnp.float32) * scale - offset
