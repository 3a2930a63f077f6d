"""The shipped networks, small and large: all are fast inside a scan on the CPU."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.models.convolution import conv

__all__ = [
    "AllCNN",
    "BasicBlock",
    "BatchNorm",
    "Conv",
    "GptCNN",
    "MLP",
    "PooledMLP",
    "ResNet18",
    "ResNet8",
    "SmallVGG",
    "max_pool",
]

# Flax's layer with its HWIO kernel; only the product behind it is chosen by platform.
Conv = partial(nn.Conv, conv_general_dilated=conv)
BatchNorm = partial(nn.BatchNorm, momentum=0.9)


def max_pool(x: Array) -> Array:
    """Take maxima of 2 x 2 windows with stride 2; an odd last row or column is dropped.

    The same as ``nn.max_pool(x, (2, 2), (2, 2))``. Slices and maxima: a window that is
    reduced, and its gradient, are slow on the CPU. Where entries of a window are equal
    they share the gradient.

    Args:
        x: images, ``[N, H, W, C]``.

    Returns:
        Images, ``[N, H // 2, W // 2, C]``.

    Raises:
        ValueError: images smaller than a window.
    """
    return _pool(x, jnp.maximum)


def _pool(x: Array, join: Callable[[Array, Array], Array]) -> Array:
    """Join the pixels of 2 x 2 windows."""
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    if not height or not width:
        raise ValueError(
            f"Images of {x.shape[1]} x {x.shape[2]} are smaller than a window of 2 x 2:"
            " give the network larger ones, or fewer stages."
        )
    rows = join(x[:, :height:2], x[:, 1:height:2])
    return join(rows[:, :, :width:2], rows[:, :, 1:width:2])


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


class PooledMLP(MLP):
    """A perceptron on the means of 2 x 2 pixels of images, ``[N, H, W, C]``.

    An odd last row or column is dropped.
    """

    def __call__(self, x: Array) -> Array:
        return super().__call__(_pool(x, jnp.add) / 4)


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

    Stages of blocks, of which all but the first halve the image; then a global
    average and a linear head. On 32 x 32 x 3 images it has 11,173,962 parameters (He
    et al., Deep residual learning for image recognition, arXiv 1512.03385, 2015). Its
    modes have no default:
    ``hf.from_linen(ResNet18(), train={"train": True}, eval={"train": False})``.

    Attributes:
        widths: channels of each stage; the stem has those of the first.
        num_classes: C.
        blocks: of each stage.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    num_classes: int = 10
    blocks: int = 2

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = Conv(self.widths[0], (3, 3), use_bias=False)(x)
        x = nn.relu(BatchNorm(not train)(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                x = BasicBlock(width, strides=2 if stage and not block else 1)(x, train)
        return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))


class ResNet8(ResNet18):
    """A ResNet-18's little sister, which a CPU trains: three stages of one block.

    On 32 x 32 x 3 images it has 78,042 parameters (the size of MLPerf Tiny's benchmark
    of image classification, Banbury et al., arXiv 2106.07597, 2021). Modes as for
    :class:`ResNet18`.

    Attributes:
        widths: channels of each stage; the stem has those of the first.
        num_classes: C.
        blocks: of each stage.
    """

    widths: Sequence[int] = (16, 32, 64)
    blocks: int = 1
