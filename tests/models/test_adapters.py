"""Any model becomes a Classifier: modes, keys, statistics, masks and sizes."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import hyperforget_jax as hf
from tests import toys

X = jax.random.normal(jax.random.key(0), (8, 6))
MOMENTUM, DROPPED = 0.8, 0.5


class Linen(nn.Module):
    dropped: float = DROPPED

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(5, name="first")(x)
        norm = nn.BatchNorm(not train, momentum=MOMENTUM, name="norm")
        x = nn.Dropout(self.dropped, deterministic=not train)(nn.relu(norm(x)))
        return nn.Dense(toys.NUM_CLASSES, name="last")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs, dropped=DROPPED):
        self.first = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=MOMENTUM, rngs=rngs)
        self.dropout = nnx.Dropout(dropped, rngs=rngs)
        self.last = nnx.Linear(5, toys.NUM_CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def from_linen(dropped=DROPPED):
    return hf.from_linen(Linen(dropped), train={"train": True}, eval={"train": False})


def from_nnx(dropped=DROPPED):
    return hf.from_nnx(lambda rngs: Nnx(rngs, dropped))


def from_functions():
    def init(key, x):
        return 0.3 * jax.random.normal(key, (x.shape[1], toys.NUM_CLASSES))

    return hf.from_functions(init, lambda params, x: x @ params)


ADAPTERS = {
    "linen": toys.softmax_regression,
    "linen with modes": from_linen,
    "nnx": from_nnx,
    "functions": from_functions,
}
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS)
with_modes = pytest.mark.parametrize("adapter", ["linen with modes", "nnx"])


@functools.cache
def made(adapter):
    """A classifier with jitted functions, and its variables."""
    classifier = ADAPTERS[adapter]()
    classifier = classifier._replace(
        init=jax.jit(classifier.init),
        apply=jax.jit(classifier.apply),
        apply_train=jax.jit(classifier.apply_train),
    )
    return classifier, classifier.init(jax.random.key(1), X)


def by_hand(variables, mean, var):
    """Both networks without dropout, normalised by the given statistics, float64."""
    p = jax.tree.map(np.float64, variables["params"])
    hidden = np.float64(X) @ p["first"]["kernel"] + p["first"]["bias"]
    scale = p["norm"]["scale"] / np.sqrt(var + 1e-5)
    hidden = np.maximum((hidden - mean) * scale + p["norm"]["bias"], 0)
    return hidden @ p["last"]["kernel"] + p["last"]["bias"]


def hidden_statistics(variables):
    """Mean and variance over the batch of what the normalisation is given."""
    first = jax.tree.map(np.float64, variables["params"]["first"])
    hidden = np.float64(X) @ first["kernel"] + first["bias"]
    return hidden.mean(axis=0), hidden.var(axis=0)


class SoftmaxRegression(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_a_module_without_modes_needs_neither(self):
        classifier = toys.softmax_regression()
        variables = classifier.init(jax.random.key(1), X)
        layer = variables["params"]["Dense_0"]
        kernel, bias = np.float64(layer["kernel"]), np.float64(layer["bias"])
        expected = np.float64(X) @ kernel + bias
        logits = self.variant(classifier.apply)(variables, X)
        # Sums of six float32 products.
        np.testing.assert_allclose(logits, expected, atol=2e-6)
        trained = self.variant(classifier.apply_train)(jax.random.key(2), variables, X)
        chex.assert_trees_all_equal(trained, (logits, variables))


def _named(params, x):
    return hf.models.dense(params["head"], x, "head")


def _zeros(key, x):
    return {"head": {"kernel": jnp.zeros((x.shape[1], toys.NUM_CLASSES))}}


# Two classifiers made alike, and one that is not.
PAIRS = {
    "linen": (from_linen, lambda: hf.from_linen(Linen(), train={"train": True})),
    "nnx": (from_nnx, lambda: from_nnx(0.25)),
    "functions": (
        lambda: hf.from_functions(_zeros, _named),
        lambda: hf.from_functions(_zeros, lambda params, x: 2 * _named(params, x)),
    ),
}


@pytest.mark.parametrize("adapter", PAIRS)
def test_classifiers_made_alike_are_equal_and_share_a_compilation(adapter):
    make, other = PAIRS[adapter]
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def logits(classifier, variables):
        traced.append(classifier)
        return classifier.apply(variables, X)

    first, second, third = make(), make(), other()
    variables = first.init(jax.random.key(1), X)
    for classifier in (first, second):
        logits(classifier, variables)
    assert first == second and hash(first) == hash(second) and len(traced) == 1
    for one, twin in zip(first, second, strict=True):
        assert one == twin and hash(one) == hash(twin)
    logits(third, variables)
    assert third != first and len(traced) == 2
    # One function is not another one of the same model.
    assert first.apply != first.taps


def test_a_module_that_cannot_be_compared_is_equal_to_itself_alone():
    class Scaled(nn.Module):
        scale: jax.Array

        @nn.compact
        def __call__(self, x):
            return nn.Dense(toys.NUM_CLASSES)(x * self.scale)

    first, second = (hf.from_linen(Scaled(jnp.ones(6))) for _ in range(2))
    assert first == first and first != second
    assert hash(first) != hash(second)


def test_nnx_models_of_other_closures_are_not_equal():
    """Of one structure, and of one line, but begun from other numbers."""

    class Begun(nnx.Module):
        def __init__(self, value):
            self.bias = nnx.Param(jnp.full(toys.NUM_CLASSES, value))

        def __call__(self, x):
            return x[:, :1] + self.bias[None]

    one, two, again = (hf.from_nnx(lambda _, v=v: Begun(v)) for v in (1.0, 2.0, 1.0))
    assert one == again and one != two


@every_adapter
def test_variables_are_plain_nested_dictionaries(adapter):
    _, variables = made(adapter)
    assert type(variables) is dict and "params" in variables
    paths, _ = jax.tree.flatten_with_path(variables)
    for path, leaf in paths:
        assert all(isinstance(entry, jax.tree_util.DictKey) for entry in path)
        assert leaf.dtype == jnp.float32


@every_adapter
def test_init_uses_the_shape_of_x_and_not_its_values(adapter):
    classifier, variables = made(adapter)
    for x in (jnp.full_like(X, jnp.nan), jnp.ones((3, 6))):
        again = classifier.init(jax.random.key(1), x)
        chex.assert_trees_all_equal(again, variables)


def test_modules_that_would_start_from_their_data_start_from_zeros():
    class Centred(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x - self.param("mean", lambda key: jnp.mean(x, axis=0))[None]

    classifier = hf.from_linen(Centred())
    variables = classifier.init(jax.random.key(1), X)
    np.testing.assert_array_equal(variables["params"]["mean"], np.zeros(6))


@every_adapter
def test_init_vmaps_over_keys(adapter):
    classifier, variables = made(adapter)
    keys = jnp.stack([jax.random.key(2), jax.random.key(1)])
    two = jax.jit(jax.vmap(classifier.init, (0, None)))(keys, X)
    # A draw of normal numbers may round otherwise in a batch.
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], two), variables, rtol=1e-6
    )
    first, second = (jax.tree.map(lambda leaf, at=at: leaf[at], two) for at in (0, 1))
    assert jax.tree.reduce(
        lambda any, same: any or not same,
        jax.tree.map(lambda a, b: bool((a == b).all()), first, second),
        False,
    )


@every_adapter
def test_training_changes_neither_params_nor_structure(adapter):
    classifier, variables = made(adapter)
    logits, after = classifier.apply_train(jax.random.key(2), variables, X)
    assert logits.shape == (8, toys.NUM_CLASSES)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, variables)
    chex.assert_trees_all_equal(after["params"], variables["params"])


@every_adapter
def test_masked_classes_are_never_predicted_and_others_keep_their_logits(adapter):
    classifier, variables = made(adapter)
    logits = classifier.apply(variables, X)
    gone = np.unique(np.argmax(logits, axis=-1))[:2]
    mask = np.isin(np.arange(toys.NUM_CLASSES), gone)
    masked_variables = {**variables, "output_mask": jnp.asarray(mask)}
    masked = classifier.apply(masked_variables, X)
    assert not np.isin(np.argmax(masked, axis=-1), gone).any()
    assert np.isfinite(masked).all()
    np.testing.assert_array_equal(masked[:, ~mask], logits[:, ~mask])
    # Training honours the mask, too, and hands it on.
    key = jax.random.key(2)
    trained, after = classifier.apply_train(key, masked_variables, X)
    plain, _ = classifier.apply_train(key, variables, X)
    assert not np.isin(np.argmax(trained, axis=-1), gone).any()
    np.testing.assert_array_equal(trained[:, ~mask], plain[:, ~mask])
    np.testing.assert_array_equal(after["output_mask"], mask)


@every_adapter
def test_an_empty_mask_changes_nothing_by_a_bit(adapter):
    classifier, variables = made(adapter)
    nothing = jnp.zeros(toys.NUM_CLASSES, bool)
    np.testing.assert_array_equal(
        classifier.apply({**variables, "output_mask": nothing}, X),
        classifier.apply(variables, X),
    )


@pytest.mark.parametrize(
    ("adapter", "known"),
    [
        ("linen", {"Dense_0"}),
        ("linen with modes", {"first", "last"}),
        ("nnx", {"first", "last"}),
        ("functions", set()),  # It names none.
    ],
)
def test_taps_are_there_where_they_are_known(adapter, known):
    classifier, variables = made(adapter)
    assert set(jax.eval_shape(classifier.taps, variables, X)) == known


@with_modes
def test_evaluation_is_the_closed_form_with_running_statistics(adapter):
    classifier, variables = made(adapter)
    moved = jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])
    logits = classifier.apply({**variables, "batch_stats": moved}, X)
    # Float32 sums of at most six terms.
    np.testing.assert_allclose(logits, by_hand(variables, 0.5, 1.5), atol=1e-5)


@with_modes
def test_dropout_follows_the_key_in_training_mode(adapter):
    classifier, variables = made(adapter)
    answers = [
        classifier.apply_train(jax.random.key(seed), variables, X)[0]
        for seed in (2, 2, 3)
    ]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert (answers[0] != answers[2]).any()


@with_modes
def test_batch_statistics_follow_the_momentum_formula_in_training_alone(adapter):
    classifier, variables = made(adapter)
    _, after = classifier.apply_train(jax.random.key(2), variables, X)
    mean, var = hidden_statistics(variables)
    (before,), (after,) = (v["batch_stats"].values() for v in (variables, after))
    for name, batch in (("mean", mean), ("var", var)):
        expected = MOMENTUM * before[name] + (1 - MOMENTUM) * batch
        # Flax computes the variance as mean(x^2) - mean(x)^2 in float32.
        np.testing.assert_allclose(after[name], expected, atol=1e-5)


def test_nnx_equals_linen_given_the_same_weights():
    linen, nnx_ = from_linen(dropped=0.0), from_nnx(dropped=0.0)
    variables = jax.jit(nnx_.init)(jax.random.key(1), X)
    chex.assert_trees_all_equal_structs(
        variables, jax.eval_shape(linen.init, jax.random.key(1), X)
    )
    key = jax.random.key(2)
    # The same float32 operations, but for the order in sums.
    chex.assert_trees_all_close(
        jax.jit(nnx_.apply)(variables, X),
        jax.jit(linen.apply)(variables, X),
        atol=1e-5,
    )
    trained = jax.jit(nnx_.apply_train)(key, variables, X)
    chex.assert_trees_all_close(
        trained, jax.jit(linen.apply_train)(key, variables, X), atol=1e-5
    )
    # Training mode normalises by the batch.
    logits = by_hand(variables, *hidden_statistics(variables))
    np.testing.assert_allclose(trained[0], logits, atol=1e-4)


def test_nnx_layers_of_dropout_draw_apart():
    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Dropout(0.5, rngs=rngs)
            self.second = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return jnp.concatenate([self.first(x), self.second(x)])

    classifier = hf.from_nnx(Twice)
    ones = jnp.ones((1, 64))
    first, second = classifier.apply_train(jax.random.key(0), {"params": {}}, ones)[0]
    assert (first != second).any()
    np.testing.assert_array_equal(
        classifier.apply({"params": {}}, ones), ones.repeat(2, 0)
    )


def test_nnx_streams_of_every_name_follow_the_key():
    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.dropout = nnx.Dropout(0.5, rng_collection="noise", rngs=rngs)

        def __call__(self, x):
            return self.dropout(x)

    # A stream of its own name, which nothing but the key may decide.
    classifier = hf.from_nnx(lambda rngs: Noisy(nnx.Rngs(rngs(), noise=rngs())))
    ones = jnp.ones((1, 64))
    draws = [
        classifier.apply_train(jax.random.key(seed), {"params": {}}, ones)[0]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_nnx_layers_that_are_stacked_draw_apart():
    class Stacked(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap
            def make(rngs):
                return nnx.Dropout(0.5, rngs=rngs)

            self.layers = make(rngs)

        def __call__(self, x):
            return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(
                self.layers, x
            )

    classifier = hf.from_nnx(Stacked)
    draws = [
        np.asarray(
            classifier.apply_train(jax.random.key(seed), {"params": {}}, ones)[0]
        )
        for ones in [jnp.ones(64)]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    # Six masks of 64 coins: none is like another.
    assert len({mask.tobytes() for mask in np.concatenate(draws[1:])}) == 6


def test_nnx_entries_of_lists_are_named_by_their_number():
    class Listed(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(11)])

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    classifier = hf.from_nnx(Listed)
    variables = jax.jit(classifier.init)(jax.random.key(0), X)
    assert set(variables["params"]["layers"]) == {str(i) for i in range(11)}
    expected = X
    for i in range(11):
        layer = variables["params"]["layers"][str(i)]
        expected = expected @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(classifier.apply(variables, X), expected, rtol=1e-4)


def test_linen_streams_of_every_name_follow_the_key():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            y = nn.Dropout(0.5, deterministic=not train)(x)
            z = nn.Dropout(0.5, rng_collection="path", deterministic=not train)(x)
            noise = jax.random.normal(self.make_rng("noise"), x.shape) if train else 0
            return jnp.concatenate([y, z, x + noise])

    classifier = hf.from_linen(Noisy(), train={"train": True})
    ones = jnp.ones((1, 64))
    variables = classifier.init(jax.random.key(0), ones)
    draws = [
        classifier.apply_train(jax.random.key(seed), variables, ones)[0]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any(axis=1).all()
    assert (draws[0][0] != draws[0][1]).any()

    class Only(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dropout(0.5, deterministic=False)(x)

    # Dropout draws what it draws where there is no other stream.
    expected = Only().apply({}, ones, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(draws[0][:1], expected)


def test_nnx_keeps_what_is_neither_parameter_nor_statistic():
    class Scaled(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(6, 4, rngs=rngs)])
            self.scale = nnx.Variable(jnp.float32(2))

        def __call__(self, x):
            return self.scale[...] * self.layers[0](x)

    classifier = hf.from_nnx(Scaled)
    variables = classifier.init(jax.random.key(0), X)
    logits = classifier.apply(variables, X)
    doubled = {**variables, "other": {"scale": jnp.float32(4)}}
    np.testing.assert_array_equal(classifier.apply(doubled, X), 2 * logits)
    after = classifier.apply_train(jax.random.key(1), doubled, X)
    chex.assert_trees_all_equal(after, (2 * logits, doubled))


def test_the_init_of_functions_sees_no_values():
    seen = []

    def init(key, x):
        seen.append(x)
        return {"w": jax.random.normal(key, (6, 4)) * (1 + jnp.mean(x))}

    classifier = hf.from_functions(init, lambda params, x: x @ params["w"])
    first = classifier.init(jax.random.key(0), X)
    chex.assert_trees_all_equal(first, classifier.init(jax.random.key(0), X + 1))
    tokens = jnp.ones((3, 5), jnp.int32)
    classifier.init(jax.random.key(0), tokens)
    np.testing.assert_array_equal(seen[0], np.zeros(X.shape))
    assert (seen[-1].shape, seen[-1].dtype) == (tokens.shape, tokens.dtype)


def test_functions_are_used_as_they_are():
    classifier, variables = made("functions")
    logits = classifier.apply(variables, X)
    np.testing.assert_allclose(logits, X @ variables["params"], atol=1e-6)
    trained = classifier.apply_train(jax.random.key(2), variables, X)
    chex.assert_trees_all_equal(trained, (logits, variables))


@pytest.mark.parametrize("module", [hf.models.MLP, None, len], ids=repr)
def test_what_is_no_module_is_refused(module):
    with pytest.raises(TypeError, match="module must be a Flax Linen module that is m"):
        hf.from_linen(module)


def test_descriptions_are_one_line_and_name_the_model():
    assert "MLP" in toys.softmax_regression().description
    for create in (Nnx, lambda rngs: Nnx(rngs)):
        assert hf.from_nnx(create).description == "nnx:Nnx"
    named = hf.from_functions(lambda key, x: 0, lambda params, x: x, description="own")
    assert named.description == "own"
    for make in ADAPTERS.values():
        assert make().description and "\n" not in make().description


@pytest.mark.parametrize(
    ("module", "shape", "count"),
    [
        # 784 * 10 + 10 + 10 * 10 + 10
        (hf.models.MLP((10,)), (28, 28, 1), 7_960),
        # 196 * 10 + 10 + 10 * 10 + 10
        (hf.models.PooledMLP((10,)), (28, 28, 1), 2_080),
        # 9 * 3 * 16 + 9 * 16 * 32 + 32 * 10 + 10
        (hf.models.GptCNN(), (32, 32, 3), 5_370),
    ],
    ids=["MLP", "PooledMLP", "GptCNN"],
)
def test_shipped_networks_have_their_size(module, shape, count):
    classifier = hf.from_linen(module)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(classifier.init, jax.random.key(0), x)
    sizes = jax.tree.map(lambda leaf: leaf.size, variables["params"])
    assert jax.tree.reduce(int.__add__, sizes) == count
    assert jax.eval_shape(classifier.apply, variables, x).shape == (2, 10)
