"""Data: examples from arrays, splits of known data sets, augmentation, poisoning."""

from hyperforget_jax.data.arrays import examples
from hyperforget_jax.data.augmentation import crop_and_flip
from hyperforget_jax.data.datasets import load
from hyperforget_jax.data.poisoning import Poisoned, flip_labels
from hyperforget_jax.data.splits import Splits

__all__ = ["Poisoned", "Splits", "crop_and_flip", "examples", "flip_labels", "load"]
