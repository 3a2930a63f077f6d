"""Adapters that make any model a Classifier, and the classifiers that are shipped."""

from hyperforget_jax.models.adapters import from_functions, from_linen, from_nnx
from hyperforget_jax.models.convolution import conv
from hyperforget_jax.models.dense import dense
from hyperforget_jax.models.ensemble import ensemble
from hyperforget_jax.models.half import in_bfloat16
from hyperforget_jax.models.head import widen
from hyperforget_jax.models.networks import (
    MLP,
    AllCNN,
    GptCNN,
    PooledMLP,
    ResNet8,
    ResNet18,
    SmallVGG,
)
from hyperforget_jax.models.predictions import logits, population_logits
from hyperforget_jax.models.taps import untapped_layers, warn_of_untapped
from hyperforget_jax.models.transformer import ViT

__all__ = [
    "AllCNN",
    "GptCNN",
    "MLP",
    "PooledMLP",
    "ResNet18",
    "ResNet8",
    "SmallVGG",
    "ViT",
    "conv",
    "dense",
    "ensemble",
    "from_functions",
    "from_linen",
    "from_nnx",
    "in_bfloat16",
    "logits",
    "population_logits",
    "untapped_layers",
    "warn_of_untapped",
    "widen",
]
