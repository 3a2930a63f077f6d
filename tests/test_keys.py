"""Keys of every implementation give what their own fit and their own request gives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import diffusion
from hyperforget_jax.keys import as_threefry
from tests import toys

IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")
OTHERS = IMPLS[1:]


def words(keys):
    return np.asarray(jax.random.key_data(keys))


def test_threefry_keys_are_their_own():
    key = jax.random.key(3)
    assert as_threefry(key) is key


@pytest.mark.parametrize("impl", OTHERS)
def test_derived_keys_are_threefry_and_differ(impl):
    keys = jnp.stack([jax.random.key(seed, impl=impl) for seed in range(20)])
    derived = as_threefry(keys, shape=None)
    assert str(jax.random.key_impl(derived)) == "threefry2x32"
    assert derived.shape == keys.shape
    assert len(np.unique(words(derived), axis=0)) == 20
    # Every word of a key counts, the last ones too.
    raw = words(keys)[0]
    for word in range(raw.size):
        changed = raw.copy()
        changed[word] += 1
        other = as_threefry(jax.random.wrap_key_data(changed, impl=impl))
        assert (words(other) != words(derived)[0]).any()


@pytest.mark.parametrize("impl", OTHERS)
def test_derived_keys_are_the_same_under_transformations(impl):
    keys = jnp.stack([jax.random.key(seed, impl=impl) for seed in range(3)])
    alone = np.stack([words(as_threefry(key)) for key in keys])
    np.testing.assert_array_equal(words(as_threefry(keys, shape=None)), alone)
    np.testing.assert_array_equal(words(jax.vmap(as_threefry)(keys)), alone)
    np.testing.assert_array_equal(words(jax.jit(as_threefry)(keys[1])), alone[1])


@pytest.mark.parametrize("impl", IMPLS)
def test_members_are_the_fits_of_their_own_keys(impl):
    key, data, classifier = (
        jax.random.key(3, impl=impl),
        toys.points(),
        toys.perceptron(),
    )
    optimizer = optax.sgd(0.1)
    population = hf.fit_population(
        key, classifier, data, optimizer, 6, members=3, batch_size=16, progress=False
    )

    @jax.jit
    def fit(key):
        return hf.fit(key, classifier, data, optimizer, 6, batch_size=16)

    alone = [fit(jax.random.fold_in(key, m)) for m in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    # Batched products sum in another order.
    chex.assert_trees_all_close(population.variables, stacked, atol=1e-5)
    kernel = population.variables["params"]["Dense_0"]["kernel"]
    assert min(jnp.abs(kernel[i] - kernel[j]).max() for i, j in ((0, 1), (0, 2))) > 0.1


@pytest.mark.parametrize(
    "method, impl",
    [("neggrad_plus", "rbg"), ("retrain", "unsafe_rbg"), ("fiun", "unsafe_rbg")],
)
def test_answers_to_many_keys_are_the_answers_to_each(method, impl):
    data, classifier = toys.points(), toys.perceptron()
    unlearner = {
        "neggrad_plus": lambda: hf.neggrad_plus(classifier, steps=3, batch_size=8),
        "retrain": lambda: hf.retrain(classifier, optax.sgd(0.1), 3, batch_size=8),
        # A fresh column of the head is drawn.
        "fiun": lambda: hf.fiun(classifier, hf.FIUnConfig.head_reassign()),
    }[method]()
    variables = classifier.init(jax.random.key(0), data.x)
    state = unlearner.init(jax.random.key(1, impl=impl), variables, data)
    request = hf.forget_classes(data, [1])
    keys = jax.random.split(jax.random.key(2, impl=impl), 3)

    @jax.jit
    def answer(key):
        return unlearner.unlearn(key, state, request)[0].variables["params"]

    each = [answer(key) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    # Batched products sum in another order.
    chex.assert_trees_all_close(jax.vmap(answer)(keys), stacked, atol=1e-5)
    assert jnp.abs(
        stacked["Dense_1"]["kernel"][0] - stacked["Dense_1"]["kernel"][2]
    ).max()


@pytest.mark.parametrize("impl", OTHERS)
def test_samples_of_many_keys_are_the_samples_of_each(impl):
    keys = jax.random.split(jax.random.key(2, impl=impl), 3)

    def draw(key):
        return diffusion.sample(
            key,
            lambda x, t: 0.5 * x,
            jnp.zeros(4),
            diffusion.schedule("cosine"),
            steps=2,
        )

    np.testing.assert_allclose(
        jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys]), atol=1e-6
    )


def test_relearning_orders_examples_alike_under_vmap():
    data, classifier = toys.points(), toys.perceptron()
    key = jax.random.key(2, impl="unsafe_rbg")
    variables = [classifier.init(jax.random.key(seed), data.x) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)

    def curve(own):
        options = dict(key=key, cap=5, batch_size=8)
        return hf.metrics.relearning_curve(classifier, own, data, **options)

    each = jnp.stack([curve(own) for own in variables])
    np.testing.assert_allclose(jax.vmap(curve)(stacked), each, atol=1e-6)


LEGACY = np.array([0, 3], np.uint32)
DATA, CLASSIFIER = toys.points(), toys.perceptron()
VARIABLES = CLASSIFIER.init(jax.random.key(0), DATA.x)
METHODS = {
    "identity": hf.identity(CLASSIFIER),
    "logit_mask": hf.logit_mask(CLASSIFIER),
    "ssd": hf.ssd(CLASSIFIER),
    "fiun": hf.fiun(CLASSIFIER),
    "pgu": hf.pgu(CLASSIFIER),
    "ascent": hf.ascent(CLASSIFIER),
}


@pytest.mark.parametrize("given", [LEGACY, jnp.asarray(LEGACY), 3, None])
@pytest.mark.parametrize(
    "call",
    [
        lambda key: hf.fit(key, CLASSIFIER, DATA, optax.sgd(0.1), 2),
        lambda key: hf.fit_population(
            key, CLASSIFIER, DATA, optax.sgd(0.1), 2, members=2, progress=False
        ),
        lambda key: hf.refresh_statistics(key, CLASSIFIER, VARIABLES, DATA),
    ],
)
def test_training_refuses_what_is_no_typed_key(call, given):
    message = "key must be a typed key" + (
        ".*jax.random.wrap_key_data" if hasattr(given, "dtype") else ""
    )
    with pytest.raises(TypeError, match=message):
        call(given)


@pytest.mark.parametrize("method", METHODS)
def test_unlearners_refuse_legacy_keys(method):
    unlearner, request = METHODS[method], hf.forget_classes(DATA, [1])
    with pytest.raises(TypeError, match="key must be a typed key.*wrap_key_data"):
        unlearner.init(LEGACY, VARIABLES, DATA)
    state = unlearner.init(jax.random.key(0), VARIABLES, DATA)
    with pytest.raises(TypeError, match="key must be a typed key.*wrap_key_data"):
        unlearner.unlearn(LEGACY, state, request)


def test_several_keys_are_refused_where_one_is_wanted():
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(ValueError, match=r"one typed key, got shape \(3,\)"):
        hf.fit(keys, CLASSIFIER, DATA, optax.sgd(0.1), 2)
    with pytest.raises(
        ValueError, match=r"one for each of 2 members, got shape \(3,\)"
    ):
        hf.fit_population(keys, CLASSIFIER, DATA, optax.sgd(0.1), 2, members=2)
