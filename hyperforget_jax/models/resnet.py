"""The residual network of eighteen layers, with a stem for small images."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.models.layers import BatchNorm, Conv

__all__ = ["BasicBlock", "ResNet18"]


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, which is projected where shapes differ.

    Attributes:
        features: channels.
        strides: of the first convolution and of the projection.
    """

    features: int
    strides: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = Conv(self.features, (3, 3), strides=self.strides, use_bias=False)(x)
        y = nn.relu(BatchNorm(not train)(y))
        y = BatchNorm(not train)(Conv(self.features, (3, 3), use_bias=False)(y))
        if x.shape != y.shape:
            x = Conv(self.features, (1, 1), strides=self.strides, use_bias=False)(x)
            x = BatchNorm(not train)(x)
        return nn.relu(x + y)


class ResNet18(nn.Module):
    """A ResNet-18 for small images: a stem of stride one and no pooling after it.

    Stages of two blocks, of which all but the first halve the image; then a global
    average and a linear head. On 32 x 32 x 3 images it has 11,173,962 parameters (He
    et al., Deep residual learning for image recognition, arXiv 1512.03385, 2015). Its
    modes have no default:
    ``hf.from_linen(ResNet18(), train={"train": True}, eval={"train": False})``.

    Attributes:
        widths: channels of each stage; the stem has those of the first.
        num_classes: C.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = Conv(self.widths[0], (3, 3), use_bias=False)(x)
        x = nn.relu(BatchNorm(not train)(x))
        for stage, width in enumerate(self.widths):
            x = BasicBlock(width, strides=1 if stage == 0 else 2)(x, train)
            x = BasicBlock(width)(x, train)
        return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))
