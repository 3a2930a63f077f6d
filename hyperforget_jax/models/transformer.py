"""A small vision transformer."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["EncoderBlock", "ViT"]


class EncoderBlock(nn.Module):
    """Self-attention and a perceptron, each normalised before and added to its input.

    Attributes:
        heads: of the attention.
        mlp_width: width of the perceptron's hidden layer.
    """

    heads: int
    mlp_width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        attention: Any = nn.MultiHeadDotProductAttention(self.heads)
        x = x + attention(nn.LayerNorm()(x))
        y = nn.gelu(nn.Dense(self.mlp_width)(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class ViT(nn.Module):
    """A vision transformer: patches, encoder blocks, their average, a linear head.

    Dosovitskiy et al., An image is worth 16x16 words, arXiv 2010.11929, 2020, with an
    average over patches in place of a class token. On 32 x 32 x 3 images it has 141,898
    parameters. It has no modes: ``hf.from_linen(ViT())``.

    Attributes:
        patch: side of a patch, in pixels; it divides both sides of the image.
        width: features of a patch, a multiple of ``heads``.
        depth: how many blocks.
        heads: of the attention.
        mlp_width: width of the hidden layer in each block.
        num_classes: C.
    """

    patch: int = 4
    width: int = 64
    depth: int = 4
    heads: int = 4
    mlp_width: int = 128
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads={self.heads}, got {self.width}."
            )
        x = nn.Dense(self.width)(_patches(x, self.patch))
        place = nn.initializers.normal(0.02)
        x = x + self.param("places", place, (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = EncoderBlock(self.heads, self.mlp_width)(x)
        x = jnp.mean(nn.LayerNorm()(x), axis=1)
        return nn.Dense(self.num_classes)(x)


def _patches(x: Array, size: int) -> Array:
    """Images ``[N, H, W, C]`` as patches in reading order, ``[N, P, size**2 * C]``."""
    count, height, width, channels = x.shape
    if height % size or width % size:
        raise ValueError(
            f"Images of {height} x {width} do not divide into patches of {size} x "
            f"{size}: choose a patch that divides both sides."
        )
    rows, columns = height // size, width // size
    x = x.reshape(count, rows, size, columns, size, channels)
    return x.swapaxes(2, 3).reshape(count, rows * columns, size**2 * channels)
