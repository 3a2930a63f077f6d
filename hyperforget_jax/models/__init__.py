"""Adapters that make any model a Classifier, and the classifiers that are shipped."""

from hyperforget_jax.models.adapters import from_functions, from_linen, from_nnx
from hyperforget_jax.models.convolution import conv
from hyperforget_jax.models.networks import MLP, ConvNet, GptCNN, gpt_mlp

__all__ = [
    "ConvNet",
    "GptCNN",
    "MLP",
    "conv",
    "from_functions",
    "from_linen",
    "from_nnx",
    "gpt_mlp",
]
