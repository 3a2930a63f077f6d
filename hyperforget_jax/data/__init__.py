"""Data: examples from arrays, known sets, augmentation, what ought to be forgotten."""

from hyperforget_jax.data.arrays import examples
from hyperforget_jax.data.augmentation import crop_and_flip
from hyperforget_jax.data.backdoor import Trigger, corner_square, plant_trigger
from hyperforget_jax.data.canaries import Canaries, canaries
from hyperforget_jax.data.datasets import load
from hyperforget_jax.data.poisoning import Poisoned, flip_labels
from hyperforget_jax.data.splits import Splits
from hyperforget_jax.data.superclasses import Merged, merge_classes

__all__ = [
    "Canaries",
    "Merged",
    "Poisoned",
    "Splits",
    "Trigger",
    "canaries",
    "corner_square",
    "crop_and_flip",
    "examples",
    "flip_labels",
    "load",
    "merge_classes",
    "plant_trigger",
]
