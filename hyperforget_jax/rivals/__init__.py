"""Rivals: methods of others, under the same protocol, to compare with."""

from hyperforget_jax.rivals.random_labels import random_labels

__all__ = ["random_labels"]
