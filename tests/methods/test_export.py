"""Request handlers leave Python: exported, stored as bytes, and called again."""

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import export

import hyperforget_jax as hf
from tests import toys
from tests.methods.table import GRAPHS, METHODS


def register(tree):
    """Name every NamedTuple in a tree to JAX, once, as its users would."""
    jax.tree.map(lambda _: None, tree, is_leaf=_register)


def _register(node):
    if hasattr(node, "_fields"):
        name = f"{type(node).__module__}.{type(node).__qualname__}"
        try:
            export.register_namedtuple_serialization(type(node), serialized_name=name)
        except ValueError as error:
            assert "Duplicate" in str(error)
    return False


@pytest.mark.parametrize("method", ["ssd", "pgu", "graph_fiun"])
def test_an_exported_request_handler_answers_as_the_method_does(method):
    data, classifier = toys.points(), toys.perceptron()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    unlearner = {**METHODS, **GRAPHS}[method](classifier)
    state = jax.jit(unlearner.init)(jax.random.key(1), variables, data)
    unlearn = jax.jit(unlearner.unlearn)

    def given(key, label):
        return jax.random.key(key), state, hf.forget_classes(data, [label])

    answer = unlearn(*given(2, 1))
    register((given(2, 1), answer))
    stored = export.export(unlearn)(*given(2, 1)).serialize()
    handler = export.deserialize(stored)
    for key, label in ((2, 1), (3, 2)):
        found, expected = handler.call(*given(key, label)), unlearn(*given(key, label))
        chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
        # The same program, compiled another time.
        chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(
        lambda a, b: bool(jnp.any(a != b)), found[0].variables, state.variables
    )
    assert any(jax.tree.leaves(moved))
