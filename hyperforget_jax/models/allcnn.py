"""The all-convolutional network: strides in place of pooling."""

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.models.layers import BatchNorm, Conv

__all__ = ["AllCNN"]

# Channels in widths, window and stride of each convolution.
_LAYERS = (
    *((1, 3, 1), (1, 3, 1), (2, 3, 2)),
    *((2, 3, 1), (2, 3, 1), (2, 3, 2)),
    *((2, 3, 1), (2, 1, 1)),
)


class AllCNN(nn.Module):
    """Eight convolutions with BatchNorm and ReLU, a global average and a linear head.

    On 32 x 32 x 3 images it has 1,620,010 parameters (after Springenberg et al.,
    Striving for simplicity: the all convolutional net, arXiv 1412.6806, 2014; as in
    arXiv 2312.04095, without dropout). Its modes have no default:
    ``hf.from_linen(AllCNN(), train={"train": True}, eval={"train": False})``.

    Attributes:
        width: channels of the first two convolutions; the others have twice as many.
        num_classes: C.
    """

    width: int = 96
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for times, size, strides in _LAYERS:
            channels, window = times * self.width, (size, size)
            x = Conv(channels, window, strides=strides, use_bias=False)(x)
            x = nn.relu(BatchNorm(not train)(x))
        return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))
