"""Classifiers in bfloat16: rounded where they compute, float32 where they add up."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import subspace

MODES = {"train": {"train": True}, "eval": {"train": False}}
NETWORKS = {
    "MLP": hf.from_linen(hf.models.MLP((16,))),
    "ResNet8": hf.from_linen(hf.models.ResNet8(widths=(4, 8)), **MODES),
}
# Half the distance between 1 and the next number of 8 bits.
ROUNDING = 2.0**-8


def loss_and_gradient(classifier, variables, x, y):
    def loss(params):
        own = {**variables, "params": params}
        logits, updated = classifier.apply_train(jax.random.key(2), own, x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), updated

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MLP", "ResNet8"])
def test_it_computes_in_bfloat16_and_keeps_float32(name):
    whole = NETWORKS[name]
    half = hf.models.in_bfloat16(whole)
    x = jax.random.normal(jax.random.key(0), (32, 8, 8, 1))
    y = jax.random.randint(jax.random.key(1), (32,), 0, 10)
    variables = whole.init(jax.random.key(2), x)
    assert "bf16" in str(jax.make_jaxpr(half.apply)(variables, x))
    assert "bf16" not in str(jax.make_jaxpr(whole.apply)(variables, x))
    found = [loss_and_gradient(each, variables, x, y) for each in (whole, half)]
    types = jax.tree.map(lambda leaf: leaf.dtype, found[1])
    assert set(jax.tree.leaves(types)) == {jnp.dtype("float32")}
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(f)]) for f in found]
    error = np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0])
    # A few roundings in a row, and not none.
    assert 0 < error < 10 * ROUNDING
    logits = half.apply(variables, x)
    spread = float(jnp.std(whole.apply(variables, x)))
    np.testing.assert_allclose(
        logits, whole.apply(variables, x), atol=10 * ROUNDING * (1 + 4 * spread)
    )


def test_grams_and_taps_are_float32_sums_of_what_is_rounded():
    whole = NETWORKS["MLP"]
    half = hf.models.in_bfloat16(whole)
    x = jax.random.normal(jax.random.key(0), (600, 8, 8, 1)) + 3
    variables = whole.init(jax.random.key(1), x)
    data = hf.data.examples(x, np.arange(600) % 10)
    grams, rounded = (
        subspace.measure(each, variables, data).values for each in (whole, half)
    )
    assert grams.keys() == rounded.keys()
    for path, gram in grams.items():
        assert rounded[path].dtype == jnp.float32
        # Sums of 600 in bfloat16 would stop at 256.
        most = 4 * ROUNDING * float(jnp.abs(gram).max())
        np.testing.assert_allclose(rounded[path], gram, atol=most)


def test_equal_classifiers_are_equal():
    first, second = (
        hf.models.in_bfloat16(hf.from_linen(hf.models.MLP((16,)))) for _ in range(2)
    )
    assert first == second and hash(first) == hash(second)
    assert first != NETWORKS["MLP"]
    assert first != hf.models.in_bfloat16(hf.from_linen(hf.models.MLP((8,))))
    with pytest.raises(TypeError, match="classifier"):
        hf.models.in_bfloat16(hf.models.MLP((16,)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [hf.pgu, hf.fiun])
def test_models_are_trained_and_forget_as_in_float32(make):
    splits = hf.data.load("digits")
    request = hf.forget_classes(splits.train, [3])
    accuracies = []
    for classifier in (NETWORKS["MLP"], hf.models.in_bfloat16(NETWORKS["MLP"])):
        fit = jax.jit(
            lambda key, data, of=classifier: hf.fit(
                key, of, data, optax.adam(5e-3), 300
            )
        )
        variables = fit(jax.random.key(0), splits.train)
        unlearner = make(classifier)
        state = jax.jit(unlearner.init)(jax.random.key(1), variables, splits.train)
        state, _ = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
        found = [
            float(
                hf.metrics.accuracy(
                    classifier.apply(model, splits.test.x), splits.test.y, half.weight
                )
            )
            for model in (variables, state.variables)
            for half in request.split(splits.test)
        ]
        accuracies.append(found)
    # Three of the 36 test images of the class, and two points of the others.
    np.testing.assert_allclose(accuracies[1], accuracies[0], atol=0.09)
    np.testing.assert_allclose(accuracies[1][1::2], accuracies[0][1::2], atol=0.02)
    assert accuracies[1][0] > 0.9 and accuracies[1][2] < 0.1
