"""Diagonal Fisher information: measured, merged over models, and dampened by."""

from hyperforget_jax.fisher.dampening import dampen
from hyperforget_jax.fisher.diagonal import ESTIMATORS, diagonal
from hyperforget_jax.fisher.information import Fisher, check_comparable, check_values
from hyperforget_jax.fisher.merging import MERGES, merge
from hyperforget_jax.fisher.remainder import without
from hyperforget_jax.trees import overlay, restrict

__all__ = [
    "ESTIMATORS",
    "Fisher",
    "MERGES",
    "check_comparable",
    "check_values",
    "dampen",
    "diagonal",
    "merge",
    "overlay",
    "restrict",
    "without",
]
