"""Multilayer perceptrons."""

from collections.abc import Sequence

import flax.linen as nn

from hyperforget_jax.base import Array

__all__ = ["MLP"]


class MLP(nn.Module):
    """A multilayer perceptron of any size, ReLU between layers.

    Attributes:
        features: widths of the hidden layers; none gives softmax regression.
        num_classes: C.
    """

    features: Sequence[int] = (128,)
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.num_classes)(x)
