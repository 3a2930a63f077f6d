"""The subspace that data use in every layer, and changes that stay clear of it."""

from hyperforget_jax.subspace.grams import Grams, measure, subtract, without_bias
from hyperforget_jax.subspace.projection import (
    Subspace,
    complement,
    project_out,
    soft_complement,
)
from hyperforget_jax.subspace.ranks import keep
from hyperforget_jax.subspace.spectrum import Spectrum, decompose
from hyperforget_jax.subspace.store import Store, load_store, save_store

__all__ = [
    "Grams",
    "Spectrum",
    "Store",
    "Subspace",
    "complement",
    "decompose",
    "keep",
    "load_store",
    "measure",
    "project_out",
    "save_store",
    "soft_complement",
    "subtract",
    "without_bias",
]
