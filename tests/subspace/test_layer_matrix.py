"""Layers as matrices and back."""

import chex
import jax
import jax.numpy as jnp
import pytest

from hyperforget_jax.subspace.grams import layer_matrix, map_layers, with_layer

LAYERS = {
    "dense": ({"kernel": (5, 3), "bias": (3,)}, 1, 5),
    "dense without bias": ({"kernel": (5, 3)}, 1, 5),
    "attention in": ({"kernel": (6, 2, 3), "bias": (2, 3)}, 1, 6),
    "attention out": ({"kernel": (2, 3, 6), "bias": (6,)}, 1, 6),
    "convolution": ({"kernel": (3, 2, 4, 6), "bias": (6,)}, 1, 24),
    "groups": ({"kernel": (3, 2, 2, 6), "bias": (6,)}, 2, 12),
}


def _layer(shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("constant", [True, False])
def test_a_layer_comes_back_from_its_matrix_to_the_bit(name, constant):
    shapes, groups, rows = LAYERS[name]
    layer = _layer(shapes)
    has_row = constant and "bias" in layer
    gram = jnp.zeros((groups, rows + has_row, 1))
    matrix = layer_matrix(layer, gram)
    assert matrix.shape[:2] == gram.shape[:2]
    back = with_layer(layer, matrix)
    if "bias" in layer and not constant:
        assert not back["bias"].any()
        back["bias"] = layer["bias"]
    chex.assert_trees_all_equal(back, layer)


def test_groups_have_their_own_outputs():
    """Group g of a grouped convolution owns the g-th part of the output channels."""
    layer = _layer(LAYERS["groups"][0])
    matrix = layer_matrix(layer, jnp.zeros((2, 13, 1)))
    chex.assert_trees_all_equal(matrix[1, :-1], layer["kernel"][..., 3:].reshape(-1, 3))
    chex.assert_trees_all_equal(matrix[1, -1], layer["bias"][3:])


def test_leaves_of_no_layer_become_zero():
    params = {
        "A": _layer({"kernel": (2, 3), "bias": (3,)}),
        "N": {"scale": jnp.ones(3)},
    }
    out = map_layers(params, {"A": jnp.zeros((1, 3, 3))}, lambda path, m: 2 * m)
    chex.assert_trees_all_equal(
        out,
        {
            "A": jax.tree.map(lambda leaf: 2 * leaf, params["A"]),
            "N": {"scale": jnp.zeros(3)},
        },
    )
