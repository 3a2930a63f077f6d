"""Every method gives every leaf back as it was: its dtype and its shape."""

import itertools

import chex
import jax
import jax.numpy as jnp
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.methods.table import MADE_OF_PARTS, METHODS

KEYS = [jax.random.key(seed) for seed in range(3)]
CHANGING = [name for name in METHODS if name != "identity"]


def _cast(params, kinds):
    """Leaves of one dtype after the other."""
    leaves, structure = jax.tree.flatten(params)
    pairs = zip(leaves, itertools.cycle(kinds), strict=False)
    return structure.unflatten([leaf.astype(kind) for leaf, kind in pairs])


def check(method, *kinds):
    """With BatchNorm, whose statistics are single whatever the parameters are."""
    data, classifier = toys.points(), toys.normalised()
    variables = jax.jit(classifier.init)(KEYS[0], data.x)
    variables = {**variables, "params": _cast(variables["params"], kinds)}
    unlearner = METHODS[method](classifier)

    @jax.jit
    def answer(variables, data, request):
        state = unlearner.init(KEYS[1], variables, data)
        return state, unlearner.unlearn(KEYS[2], state, request)[0]

    before, after = answer(variables, data, hf.forget_classes(data, [1]))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        {name: after.variables[name] for name in variables}, variables
    )
    chex.assert_tree_all_finite(after.variables)


CHANGING_OR_SLOW = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "dihyfo" else [])
    for name in CHANGING
]


@pytest.mark.parametrize(
    "method", [name for name in CHANGING if name not in ("dihyfo", *MADE_OF_PARTS)]
)
def test_half_precision_stays(method):
    check(method, jnp.bfloat16)


@pytest.mark.parametrize(
    "method", [each for each in CHANGING_OR_SLOW if each.values[0] not in MADE_OF_PARTS]
)
def test_each_leaf_keeps_its_own_dtype(method):
    check(method, jnp.bfloat16, jnp.float32, jnp.float16)


@pytest.mark.parametrize("method", CHANGING_OR_SLOW)
def test_double_precision_stays(method):
    # All that there are in one program, where one shows enough.
    mixed = (jnp.bfloat16, jnp.float32, jnp.float16) if method in MADE_OF_PARTS else ()
    with jax.enable_x64(True):
        check(method, jnp.float64, *mixed)


@pytest.mark.parametrize("method", ["retrain", "finetune", "fiun_published"])
def test_data_of_double_precision_widen_nothing(method):
    with jax.enable_x64(True):
        check(method, jnp.float32)
