"""Plain functions name their layers, and are then unlearned as Flax's models are."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hyperforget_jax as hf
from tests import toys

KEY = jax.random.key(0)
LINEN = hf.from_linen(hf.models.MLP((5,), toys.NUM_CLASSES))


def init(key, x):
    return LINEN.init(key, x)["params"]


def named(params, x):
    hidden = hf.models.dense(params["Dense_0"], x, "Dense_0")
    return hf.models.dense(params["Dense_1"], nn.relu(hidden), "Dense_1")


def head_alone(params, x):
    layer = params["Dense_0"]
    hidden = nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return hf.models.dense(params["Dense_1"], hidden, "Dense_1")


def looped(params, x):
    hidden = lax.map(lambda row: hf.models.dense(params["Dense_0"], row, "Dense_0"), x)
    return hf.models.dense(params["Dense_1"], nn.relu(hidden), "Dense_1")


def twice(params, x):
    layer = params["Dense_0"]
    hidden = hf.models.dense(layer, x, "Dense_0") + 0.1 * jnp.sum(layer["kernel"])
    return hf.models.dense(params["Dense_1"], nn.relu(hidden), "Dense_1")


@functools.cache
def world():
    data = toys.points()
    variables = jax.jit(LINEN.init)(KEY, data.x)
    return data, jax.tree.map(lambda leaf: leaf + 0.1, variables)


def test_a_dense_layer_is_a_product_and_a_bias():
    random = np.random.default_rng(0)
    x, kernel, bias = (
        random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4), (4, 5), 5)
    )
    for layer in ({"kernel": kernel}, {"kernel": kernel, "bias": bias}):
        out = hf.models.dense(layer, jnp.asarray(x), "any")
        expected = np.einsum("nmd,do->nmo", np.float64(x), kernel)
        expected += layer.get("bias", 0)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "apply",
    [
        named,
        jax.jit(named),
        jax.checkpoint(named),
        lambda params, x: jax.vmap(lambda row: named(params, row))(x),
        lambda params, x: jax.vmap(named, (None, 1))(params, x.T),
    ],
    ids=["plain", "jit", "checkpoint", "vmap", "vmap of another axis"],
)
def test_taps_are_those_of_linen(apply):
    data, variables = world()
    classifier = hf.from_functions(init, apply)
    expected = LINEN.tapped(variables, data.x, {})
    for _ in range(2):  # What is cached has marks already.
        logits = classifier.apply(variables, data.x)
        np.testing.assert_allclose(logits, expected[0], rtol=1e-5, atol=1e-6)
        got = classifier.tapped(variables, data.x, {})
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda v: classifier.apply(v, data.x)[0, 0]))
    chex.assert_trees_all_close(
        gradient(variables),
        jax.grad(lambda v: LINEN.apply(v, data.x)[0, 0])(variables),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("apply", "left"),
    [(named, []), (head_alone, ["Dense_0/kernel"])]
    + [(apply, ["Dense_0/kernel"]) for apply in (looped, twice)],
    ids=["named", "head alone", "in a loop", "read elsewhere"],
)
def test_layers_without_taps_are_listed(apply, left):
    data, variables = world()
    classifier = hf.from_functions(init, apply)
    assert hf.models.untapped_layers(classifier, variables, data.x) == left


METHODS = {
    "fiun": hf.fiun,
    "pgu": functools.partial(hf.pgu, config=hf.PGUConfig(rounds=2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_methods_answer_as_for_the_same_model_of_flax(method):
    data, variables = world()
    request = hf.forget_classes(data, [1])

    def answer(classifier):
        unlearner = METHODS[method](classifier)
        state = unlearner.init(KEY, variables, data)
        return jax.jit(unlearner.unlearn)(KEY, state, request)[0].variables

    got = answer(hf.from_functions(init, named))
    expected = answer(LINEN)
    # Steps of Adam on the same float32 sums, compiled apart.
    chex.assert_trees_all_close(got, expected, rtol=1e-3, atol=1e-4)
    for name, layer in variables["params"].items():
        assert (got["params"][name]["kernel"] != layer["kernel"]).any()


def test_the_head_alone_is_enough_for_fiun_and_pgu_warns_of_the_rest():
    data, variables = world()
    classifier = hf.from_functions(init, head_alone, description="own")
    for config in hf.fisher.PRESETS.values():
        hf.fiun(classifier, config).init(KEY, variables, data)
    with pytest.warns(UserWarning, match="hf.pgu will not move Dense_0/kernel: .* own"):
        unlearner = hf.pgu(classifier, hf.PGUConfig(rounds=2))
        state = unlearner.init(KEY, variables, data)
    request = hf.forget_classes(data, [1])
    changed = jax.jit(unlearner.unlearn)(KEY, state, request)[0].variables["params"]
    before = variables["params"]
    chex.assert_trees_all_equal(changed["Dense_0"], before["Dense_0"])
    assert (changed["Dense_1"]["kernel"] != before["Dense_1"]["kernel"]).any()


def test_functions_that_name_no_layer_are_refused_with_the_remedy():
    data, variables = world()
    bare = hf.from_functions(init, lambda params, x: x @ params["w"], description="own")
    variables = {"params": {"w": jnp.ones((data.x.shape[1], toys.NUM_CLASSES))}}
    for method in (hf.fiun, hf.pgu):
        with pytest.raises(ValueError, match="taps.*hf.models.dense"):
            method(bare).init(KEY, variables, data)


@pytest.mark.parametrize(
    ("layer", "x", "path", "error", "what"),
    [
        (jnp.ones((2, 3)), (4, 2), "a", TypeError, "layer must be {'kernel'.*'a'"),
        ({"w": jnp.ones((2, 3))}, (4, 2), "a", TypeError, r"got \['w'\]"),
        ({"kernel": jnp.ones((2, 3))}, (4, 2), 3, TypeError, "path must be a string"),
        ({"kernel": jnp.ones((2, 3))}, (4, 3), "a", ValueError, r"given \(4, 3\)"),
        ({"kernel": jnp.ones(2)}, (4, 2), "a", ValueError, r"shape \(2,\)"),
        (
            {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(2)},
            (4, 2),
            "a",
            ValueError,
            r"bias must be \[O\] = \(3,\)",
        ),
    ],
    ids=["array", "other names", "no path", "width", "vector", "bias"],
)
def test_malformed_layers_are_refused_by_name(layer, x, path, error, what):
    with pytest.raises(error, match=what):
        hf.models.dense(layer, jnp.ones(x), path)
