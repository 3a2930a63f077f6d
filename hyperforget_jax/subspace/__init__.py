"""The subspace that data use in every layer, and changes that stay clear of it."""

from hyperforget_jax.subspace.grams import Grams, measure, subtract, without_bias
from hyperforget_jax.subspace.projection import (
    Projector,
    null_space,
    project_gradients,
    soft_null_space,
)
from hyperforget_jax.subspace.protection import measure_by_class, protect
from hyperforget_jax.subspace.spectrum import Spectrum, decompose, keep
from hyperforget_jax.subspace.store import Store, load_store, save_store

__all__ = [
    "Grams",
    "Projector",
    "Spectrum",
    "Store",
    "decompose",
    "keep",
    "load_store",
    "measure",
    "measure_by_class",
    "null_space",
    "project_gradients",
    "protect",
    "save_store",
    "soft_null_space",
    "subtract",
    "without_bias",
]
