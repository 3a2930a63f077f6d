"""G.pt's convolutional network."""

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.models.layers import Conv

__all__ = ["GptCNN"]


class GptCNN(nn.Module):
    """G.pt's CIFAR-10 classifier: 5,370 parameters on 32 x 32 x 3 images.

    Two convolutions without bias, 16 (stride 2) and 32 features, a global average
    and a linear head (Peebles et al., arXiv 2209.12892, 2022).
    """

    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Array) -> Array:
        pads = ((1, 1), (1, 1))
        x = nn.relu(Conv(16, (3, 3), strides=2, padding=pads, use_bias=False)(x))
        x = nn.relu(Conv(32, (3, 3), padding=pads, use_bias=False)(x))
        return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))
