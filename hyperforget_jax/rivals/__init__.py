"""Rivals: methods of others, under the same protocol, to compare with."""

from hyperforget_jax.rivals.ct import ct
from hyperforget_jax.rivals.damp import damp
from hyperforget_jax.rivals.fcs import fcs
from hyperforget_jax.rivals.kfade import kfade
from hyperforget_jax.rivals.msg import msg
from hyperforget_jax.rivals.random_labels import random_labels
from hyperforget_jax.rivals.rewind import rewind
from hyperforget_jax.rivals.svd_forgetting import svd_forgetting

__all__ = [
    "ct",
    "damp",
    "fcs",
    "kfade",
    "msg",
    "random_labels",
    "rewind",
    "svd_forgetting",
]
