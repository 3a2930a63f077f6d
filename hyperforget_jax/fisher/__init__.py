"""Diagonal Fisher information and the dampening rule."""

from hyperforget_jax.fisher.dampening import dampen
from hyperforget_jax.fisher.diagonal import ESTIMATORS, diagonal

__all__ = ["ESTIMATORS", "dampen", "diagonal"]
