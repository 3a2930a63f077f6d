"""Small worlds in which every test runs: forty points and tiny classifiers."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

import hyperforget_jax as hf
from hyperforget_jax.base import Array
from hyperforget_jax.models.networks import BatchNorm, Conv

NUM_CLASSES = 4


# One program in place of a dozen: every file makes them anew.
@functools.partial(
    jax.jit, static_argnums=(0, 1), static_argnames=("num_rows", "features")
)
def points(
    num_rows: int = 40, features: int = 6, seed: int = 7, first_id: int = 0
) -> hf.Examples:
    """Noisy clusters, one a class, every class ``num_rows / 4`` times, shuffled."""
    key_centre, key_noise, key_order = jax.random.split(jax.random.key(seed), 3)
    y = jax.random.permutation(key_order, jnp.arange(num_rows) % NUM_CLASSES)
    centres = 2 * jax.random.normal(key_centre, (NUM_CLASSES, features))
    x = centres[y] + jax.random.normal(key_noise, (num_rows, features))
    ones = jnp.ones(num_rows, jnp.int32)
    ids = first_id + jnp.arange(num_rows)
    return hf.Examples(x, y.astype(jnp.int32), ones, ids)


def softmax_regression() -> hf.Classifier:
    return hf.from_linen(hf.models.MLP((), NUM_CLASSES))


def perceptron() -> hf.Classifier:
    return hf.from_linen(hf.models.MLP((5,), NUM_CLASSES))


class ConvNet(nn.Module):
    """Convolutions with BatchNorm, all but the first of stride two, and no bias."""

    features: Sequence[int] = (2, 3)
    num_classes: int = NUM_CLASSES

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for stage, channels in enumerate(self.features):
            strides = 1 if stage == 0 else 2
            x = Conv(channels, (3, 3), strides=strides, use_bias=False)(x)
            x = nn.relu(BatchNorm(not train)(x))
        return nn.Dense(self.num_classes)(jnp.mean(x, axis=(1, 2)))


class _Normalised(nn.Module):
    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = nn.Dense(5)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(x))
        return nn.Dense(NUM_CLASSES)(x)


def normalised() -> hf.Classifier:
    """A perceptron with BatchNorm."""
    return hf.from_linen(_Normalised(), train={"train": True}, eval={"train": False})


def scribble(key: Array, data: hf.Examples, rows: Array) -> hf.Examples:
    """The same examples with finite noise in the x and y of the given rows."""
    key_x, key_y = jax.random.split(key)
    chosen = jnp.zeros(data.y.shape, bool).at[rows].set(True, mode="drop")
    noise = 100 * jax.random.normal(key_x, data.x.shape)
    labels = jax.random.randint(key_y, data.y.shape, 0, NUM_CLASSES, data.y.dtype)
    wide = chosen.reshape(-1, *[1] * (data.x.ndim - 1))
    return data._replace(
        x=jnp.where(wide, noise, data.x), y=jnp.where(chosen, labels, data.y)
    )
