"""Rivals: methods of others, under the same protocol, to compare with."""

from hyperforget_jax.rivals.assd import assd
from hyperforget_jax.rivals.boundary_expand import boundary_expand
from hyperforget_jax.rivals.boundary_shrink import boundary_shrink
from hyperforget_jax.rivals.fisher_noise import fisher_noise
from hyperforget_jax.rivals.influence import influence
from hyperforget_jax.rivals.jit_lipschitz import jit_lipschitz
from hyperforget_jax.rivals.lfssd import lfssd
from hyperforget_jax.rivals.random_labels import random_labels

__all__ = [
    "assd",
    "boundary_expand",
    "boundary_shrink",
    "fisher_noise",
    "influence",
    "jit_lipschitz",
    "lfssd",
    "random_labels",
]
