"""The directions that a layer's inputs take, and how much of them goes each way."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.subspace.grams import Grams

__all__ = ["Spectrum", "decompose"]


# One matrix at a time: batches of eigenproblems inside a larger program can wait for
# each other for ever on the CPU (seen with jaxlib 0.10.2 on two cores).
_eigh = jax.custom_batching.sequential_vmap(
    lambda matrix: tuple(jnp.linalg.eigh(matrix))
)


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of Gram matrices, the largest first.

    Attributes:
        values: by layer, float32, ``[G, D]``, not negative.
        basis: by layer, float32, ``[G, D, D]``: eigenvectors are the columns.
        clipped: by layer, float32, ``[]``: the negative eigenvalues that were set to
            zero, as a share of all of them in absolute value. What was summed and
            subtracted in float32 leaves about 1e-7; more says that something was
            subtracted which was never added, or not as it was added.
    """

    values: dict[str, Array]
    basis: dict[str, Array]
    clipped: dict[str, Array]


def decompose(grams: Grams) -> Spectrum:
    """Eigendecomposition of every layer's symmetrised Gram matrix.

    Not a singular value decomposition, which would turn negative eigenvalues of a
    difference into directions that seem to be in use.

    Args:
        grams: as by :func:`measure`.
    """
    values, basis, clipped = {}, {}, {}
    for path, gram in grams.values.items():
        found, vectors = jax.vmap(_eigh)((gram + jnp.swapaxes(gram, -1, -2)) / 2)
        found, basis[path] = found[..., ::-1], vectors[..., ::-1]
        total = jnp.sum(jnp.abs(found))
        negative = jnp.sum(jnp.maximum(-found, 0))
        clipped[path] = negative / jnp.where(total > 0, total, 1)
        values[path] = jnp.maximum(found, 0)
    return Spectrum(values, basis, clipped)
