"""Rows times a layer's matrix are what the layer gives."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hyperforget_jax as hf
from hyperforget_jax.base import Tap
from hyperforget_jax.models.taps import pad, rows_of
from hyperforget_jax.subspace.grams import layer_matrix

IMAGES = jax.random.normal(jax.random.key(0), (3, 6, 7, 4))
LINES = jax.random.normal(jax.random.key(1), (3, 9, 4))
VECTORS = jax.random.normal(jax.random.key(2), (3, 6))
# Sums of at most 49 float32 products of normal numbers, in another order.
CLOSE = dict(rtol=1e-5, atol=2e-5)

# name: layer, input
LAYERS = {
    "dense": (nn.Dense(5), VECTORS),
    "dense at places": (nn.Dense(5), IMAGES),
    "several axes in": (nn.DenseGeneral(5, axis=(-2, -1)), IMAGES),
    "several axes out": (nn.DenseGeneral((2, 3)), LINES),
    "same": (nn.Conv(6, (3, 3)), IMAGES),
    "valid": (nn.Conv(6, (2, 3), padding="VALID"), IMAGES),
    "explicit": (nn.Conv(6, (3, 3), padding=((0, 2), (3, 1))), IMAGES),
    "strided": (nn.Conv(6, (3, 3), strides=2), IMAGES),
    "dilated": (nn.Conv(6, (3, 2), kernel_dilation=2), IMAGES),
    "all at once": (
        nn.Conv(6, (2, 3), strides=(2, 1), kernel_dilation=(1, 2), padding=2),
        IMAGES,
    ),
    "groups": (nn.Conv(6, (3, 3), feature_group_count=2), IMAGES),
    "depthwise": (nn.Conv(8, (3, 2), strides=2, feature_group_count=4), IMAGES),
    "line": (nn.Conv(6, (3,), strides=2), LINES),
    "one by one": (nn.Conv(6, (1, 1)), IMAGES),
    "more axes": (nn.Conv(6, (3,)), IMAGES),
    "more axes, groups": (nn.Conv(6, (3,), feature_group_count=2), IMAGES),
}


def product(tap, layer):
    """What a layer gives according to its rows and its matrix."""
    rows = rows_of(tap, layer["kernel"].shape, "bias" in layer)
    gram = jnp.zeros((tap.groups, rows.shape[-1], 1))
    out = jnp.einsum("gnpd,gdo->npgo", rows, layer_matrix(layer, gram))
    return rows, out


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_rows_times_the_matrix_are_the_outputs(name, bias):
    layer, x = LAYERS[name]
    module = nn.Sequential([layer.clone(use_bias=bias)])
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(random.normal(size=leaf.shape)),
        jax.eval_shape(module.init, jax.random.key(3), x),
    )

    @jax.jit
    def compare(variables, x):
        (tap,) = hf.from_linen(module).taps(variables, x)["layers_0"]
        params = variables["params"]["layers_0"]
        return *product(tap, params), module.apply(variables, x)

    rows, got, expected = compare(variables, x)
    kernel = variables["params"]["layers_0"]["kernel"]
    groups = getattr(layer, "feature_group_count", 1)
    places = expected.size // (x.shape[0] * got.shape[2] * got.shape[3])
    width = kernel.size // math.prod(got.shape[2:]) + bias
    assert rows.dtype == jnp.float32
    assert rows.shape == (groups, x.shape[0], places, width)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, **CLOSE)
    if bias:
        assert (rows[..., -1] == 1).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_negative_padding_crops(groups):
    padding, strides = ((-1, 2), (1, -2)), (2, 1)
    kernel = jax.random.normal(jax.random.key(4), (3, 2, 4 // groups, 6))
    tap = Tap(IMAGES, "conv", strides, padding, (1, 1), groups)
    # Cut by hand: XLA itself reads past the image where a negative low padding meets a
    # positive high one (https://github.com/openxla/xla/issues/48713).
    expected = lax.conv_general_dilated(
        jnp.pad(IMAGES[:, 1:, :-2], ((0, 0), (0, 2), (1, 0), (0, 0))),
        kernel,
        strides,
        "VALID",
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    _, got = product(tap, {"kernel": kernel})
    np.testing.assert_allclose(got.reshape(expected.shape), expected, **CLOSE)


def test_rows_of_half_precision_are_exact_in_single():
    tap = Tap(VECTORS.astype(jnp.bfloat16), "dense")
    rows = rows_of(tap, (6, 5), True)
    assert rows.dtype == jnp.float32
    np.testing.assert_array_equal(rows[0, :, 0, :-1], tap.input.astype(jnp.float32))


def test_pad_surrounds_and_crops():
    got = pad(IMAGES, ((1, -2), (0, 3)))
    expected = np.pad(IMAGES[:, :-2], ((0, 0), (1, 0), (0, 3), (0, 0)))
    np.testing.assert_array_equal(got, expected)
