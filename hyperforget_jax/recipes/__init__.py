"""Tuned settings: what a committed search chose for each method."""

from hyperforget_jax.recipes.makers import MAKERS, Maker
from hyperforget_jax.recipes.tuned import Recipe, load

__all__ = ["MAKERS", "Maker", "Recipe", "load"]
