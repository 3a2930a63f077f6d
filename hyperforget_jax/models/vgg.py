"""A VGG of three convolutions, the classifier of gradient-projection unlearning."""

from collections.abc import Sequence

import flax.linen as nn

from hyperforget_jax.base import Array
from hyperforget_jax.models.layers import BatchNorm, Conv, max_pool

__all__ = ["SmallVGG"]


class SmallVGG(nn.Module):
    """Stages of convolution, ReLU, maxima and BatchNorm, then a perceptron.

    The last stage normalises before it takes the maxima. On 32 x 32 x 3 images it has
    5,681,674 parameters (Hoang et al., Learn to unlearn for deep neural networks:
    minimizing unlearning interference with gradient projection, arXiv 2312.04095,
    2023). Images of any size of at least ``2 ** len(features)`` will do. Its modes have
    no default:
    ``hf.from_linen(SmallVGG(), train={"train": True}, eval={"train": False})``.

    Attributes:
        features: channels of each stage.
        hidden: width of the perceptron's hidden layer.
        dropout: the share of the perceptron's inputs that training drops.
        num_classes: C.
    """

    features: Sequence[int] = (128, 256, 512)
    hidden: int = 512
    dropout: float = 0.5
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        *stages, last = self.features
        for channels in stages:
            x = nn.relu(Conv(channels, (3, 3))(x))
            x = BatchNorm(not train)(max_pool(x))
        x = nn.relu(Conv(last, (3, 3))(x))
        x = max_pool(BatchNorm(not train)(x))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = BatchNorm(not train)(nn.relu(nn.Dense(self.hidden)(x)))
        return nn.Dense(self.num_classes)(x)
