"""Trained classifiers, the same ones retrained, and a hypernetwork for them."""

from hyperforget_jax.pretrained.saved import Pretrained, load, save

__all__ = ["Pretrained", "load", "save"]
