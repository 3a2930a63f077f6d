"""Gram matrices against a float64 loop over examples and places, and their algebra."""

import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import hyperforget_jax as hf
from hyperforget_jax import sharding, trees
from hyperforget_jax.subspace.grams import Grams, measure, subtract, without_bias
from tests import toys

ROWS = 10
VECTORS = jax.random.normal(jax.random.key(1), (ROWS, 6))
IMAGES = jax.random.normal(jax.random.key(2), (ROWS, 5, 6, 2))
# Three microbatches of which the last is short; some rows are absent, some repeated.
WEIGHT = jnp.arange(ROWS) % 4
BATCH = 4
NUM_CLASSES = toys.NUM_CLASSES
AUGMENT = hf.data.crop_and_flip(seed=5, padding=1)


class Geometry(nn.Module):
    """All that a convolution can have; biases and none; one call in a longer batch."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 2), strides=(1, 2), padding=((0, 1), (2, 0)))(x)
        x = nn.Conv(4, (2, 2), kernel_dilation=(1, 2), use_bias=False)(nn.tanh(x))
        x = nn.Conv(6, (2, 2), feature_group_count=2)(nn.tanh(x))
        x = nn.Conv(6, (3, 1), feature_group_count=6, use_bias=False)(nn.tanh(x))
        x = nn.Conv(3, (2,), padding=((1, -1),))(nn.tanh(x))
        return nn.Dense(NUM_CLASSES)(x.reshape(x.shape[0], -1))


class Shared(nn.Module):
    """A layer called twice, then one that contracts two axes of three."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6)
        x = nn.tanh(layer(nn.tanh(layer(x))))
        x = x.reshape(x.shape[0], 1, 3, 2)
        x = nn.tanh(nn.DenseGeneral((2, 2), axis=(-2, -1))(x))
        return nn.Dense(NUM_CLASSES)(x.reshape(x.shape[0], -1))


class Turned(nn.Module):
    """Rows on the second axis, and as many places as rows in a microbatch."""

    @nn.compact
    def __call__(self, x):
        x = jnp.stack([x, 2 * x, -x, 3 * x])
        x = nn.tanh(nn.Dense(3)(x))
        return nn.Dense(NUM_CLASSES)(jnp.mean(x, axis=0))


class Tied(nn.Module):
    """A kernel that is read outside its layer too."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(5)
        x = nn.tanh(layer(x)) @ layer.variables["params"]["kernel"].T
        return nn.Dense(NUM_CLASSES)(nn.tanh(x))


# name: classifier, inputs, shapes of the Gram matrices
WORLDS = {
    "perceptron": (toys.perceptron, VECTORS, {"Dense_0": (1, 7), "Dense_1": (1, 6)}),
    "BatchNorm": (toys.normalised, VECTORS, {"Dense_0": (1, 7), "Dense_1": (1, 6)}),
    "geometry": (
        lambda: hf.from_linen(Geometry()),
        IMAGES,
        {
            "Conv_0": (1, 13),
            "Conv_1": (1, 16),
            "Conv_2": (2, 9),
            "Conv_3": (6, 3),
            "Conv_4": (1, 13),
            "Dense_0": (1, 37),
        },
    ),
    "shared": (
        lambda: hf.from_linen(Shared()),
        VECTORS,
        {"Dense_0": (1, 7), "DenseGeneral_0": (1, 7), "Dense_1": (1, 5)},
    ),
    "turned": (
        lambda: hf.from_linen(Turned()),
        VECTORS,
        {"Dense_0": (1, 7), "Dense_1": (1, 4)},
    ),
    "tied": (lambda: hf.from_linen(Tied()), VECTORS, {"Dense_1": (1, 7)}),
}


@functools.cache
def world(name):
    """Classifier, drawn variables and data."""
    make, x, _ = WORLDS[name]
    classifier = make()
    shapes = jax.eval_shape(classifier.init, jax.random.key(0), x)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(0.3 * random.normal(size=leaf.shape)), shapes
    )
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(
            lambda leaf: np.square(leaf) + 1, variables["batch_stats"]
        )
    y = jnp.zeros(ROWS, jnp.int32)
    return classifier, variables, hf.Examples(x, y, WEIGHT, jnp.arange(ROWS))


@functools.cache
def measure_in(name, **options):
    """``(variables, data) -> Grams``, compiled."""
    options = {"batch_size": BATCH, **options}
    return jax.jit(functools.partial(measure, world(name)[0], **options))


def seen(tap, kernel_shape):
    """What the kernel saw at each place of one example's call, ``[P, G, D]``."""
    x, axes = np.float64(tap.input), len(tap.strides)
    if tap.kind == "dense":
        return x.reshape(-1, 1, x.shape[-1])
    x = x.reshape(-1, *x.shape[-1 - axes :])
    margins = [(max(low, 0), max(high, 0)) for low, high in tap.padding]
    cuts = [slice(max(-low, 0), min(high, 0) or None) for low, high in tap.padding]
    x = np.pad(x[:, *cuts], ((0, 0), *margins, (0, 0)))
    windows, places = kernel_shape[:axes], []
    counts = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(
            x.shape[1:-1], windows, tap.dilation, tap.strides, strict=True
        )
    ]
    for image, *at in itertools.product(range(len(x)), *map(range, counts)):
        within = [
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(at, tap.strides, windows, tap.dilation, strict=True)
        ]
        pixels = x[image, *within].reshape(-1, tap.groups, x.shape[-1] // tap.groups)
        places.append(np.swapaxes(pixels, 0, 1).reshape(tap.groups, -1))
    return np.stack(places)


def by_hand(classifier, variables, data, layers):
    """The definition in float64: one example, call and place after the other."""
    taps_of = jax.jit(classifier.taps)
    values = dict.fromkeys(layers, 0)
    for x, weight in zip(data.x, np.asarray(data.weight), strict=True):
        taps = taps_of(variables, x[None])
        for path in layers:
            layer = trees.get(variables["params"], path)
            rows = np.concatenate([seen(t, layer["kernel"].shape) for t in taps[path]])
            if "bias" in layer:
                rows = np.concatenate([rows, np.ones((*rows.shape[:2], 1))], axis=2)
            values[path] += weight * np.einsum("pgd,pge->gde", rows, rows)
    return values


def assert_near(got, expected, share=1e-6):
    """Every entry within a share of the layer's largest: float32 sums, any order."""
    assert set(got) == set(expected)
    for path, gram in expected.items():
        largest = np.abs(gram).max()
        np.testing.assert_allclose(got[path], gram, rtol=0, atol=share * largest)


@pytest.mark.parametrize("name", WORLDS)
def test_equals_a_loop_over_examples_and_places(name):
    classifier, variables, data = world(name)
    got = measure_in(name)(variables, data)
    shapes = WORLDS[name][2]
    assert_near(got.values, by_hand(classifier, variables, data, shapes))
    assert got.total_weight == WEIGHT.sum()
    for path, gram in got.values.items():
        groups, width = shapes[path]
        assert gram.shape == (groups, width, width) and gram.dtype == jnp.float32
        np.testing.assert_array_equal(gram, np.swapaxes(gram, 1, 2))


class JitTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_jit_and_eager(self):
        classifier, variables, data = world("perceptron")
        got = self.variant(functools.partial(measure, classifier, batch_size=BATCH))(
            variables, data
        )
        assert_near(
            got.values, by_hand(classifier, variables, data, WORLDS["perceptron"][2])
        )


def test_the_plain_taps_do_where_there_are_no_others():
    classifier, variables, data = world("perceptron")
    plain = classifier._replace(tapped=None)
    got = jax.jit(functools.partial(measure, plain, batch_size=BATCH))(variables, data)
    assert_near(got.values, measure_in("perceptron")(variables, data).values)


def test_disjoint_examples_add_up():
    _, variables, data = world("geometry")
    first = jnp.arange(ROWS) % 2 == 0
    run = measure_in("geometry")
    parts = [
        run(variables, data._replace(weight=jnp.where(chosen, WEIGHT, 0)))
        for chosen in (first, ~first)
    ]
    whole, together = run(variables, data), jax.tree.map(jnp.add, *parts)
    assert_near(together.values, whole.values)
    assert together.total_weight == whole.total_weight


def test_order_and_size_of_batches_do_not_matter():
    _, variables, data = world("geometry")
    expected = measure_in("geometry")(variables, data).values
    turned = jax.tree.map(lambda leaf: leaf[::-1], data)
    assert_near(measure_in("geometry")(variables, turned).values, expected)
    for size in (1, 3, 256):
        got = measure_in("geometry", batch_size=size)(variables, data)
        assert_near(got.values, expected)


def test_many_microbatches_lose_no_digits():
    classifier = toys.softmax_regression()
    x, ones = jnp.full((20_000, 2), 0.1), jnp.ones(20_000, jnp.int32)
    data = hf.Examples(x, 0 * ones, ones, jnp.arange(20_000))
    variables = classifier.init(jax.random.key(0), x)
    got = jax.jit(functools.partial(measure, classifier, batch_size=1))(variables, data)
    row = np.array([x[0, 0], x[0, 1], 1], np.float64)
    expected = 20_000 * np.outer(row, row)[None]
    naive = np.cumsum(np.full(20_000, row[0] ** 2, np.float32))[-1]
    assert abs(naive / expected[0, 0, 0] - 1) > 1e-5
    # The products alone are rounded.
    np.testing.assert_allclose(got.values["Dense_0"], expected, rtol=2e-7)


def test_a_weight_of_two_is_the_row_twice():
    _, variables, data = world("geometry")
    rows = np.repeat(np.arange(ROWS), WEIGHT)
    ones = data.take(rows)._replace(weight=jnp.ones(len(rows), jnp.int32))
    got = measure_in("geometry")(variables, ones)
    assert_near(got.values, measure_in("geometry")(variables, data).values)
    assert got.total_weight == WEIGHT.sum()


@pytest.mark.parametrize("name", ["BatchNorm", "geometry"])
def test_rows_of_weight_zero_are_inert_to_the_bit(name):
    _, variables, data = world(name)
    run, rows = measure_in(name), jnp.flatnonzero(WEIGHT == 0)
    noisy = toys.scribble(jax.random.key(3), data, rows)
    unknown = data._replace(x=data.x.at[rows].set(jnp.nan))
    expected = run(variables, data)
    for other in (noisy, unknown):
        chex.assert_trees_all_equal(run(variables, other), expected)


def test_nothing_forgotten_changes_nothing():
    _, variables, data = world("geometry")
    run = measure_in("geometry", augment=AUGMENT, epochs=2)
    whole = run(variables, data)
    nothing = run(variables, data._replace(weight=jnp.zeros_like(WEIGHT)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(nothing))
    chex.assert_trees_all_equal(subtract(whole, nothing), whole)


def test_what_was_added_can_be_subtracted():
    """The forgotten rows by themselves, and in other microbatches, are augmented as
    they were among the others."""
    _, variables, data = world("geometry")
    run = measure_in("geometry", augment=AUGMENT, epochs=2)
    rows = jnp.array([7, 2, 5, -1])
    whole = run(variables, data)
    left = subtract(whole, run(variables, data.take(rows)))
    rest = run(variables, data.without(rows))
    for path, gram in left.values.items():
        # Float32 rounding of sums as large as the whole's.
        atol = 1e-6 * np.abs(whole.values[path]).max()
        np.testing.assert_allclose(gram, rest.values[path], rtol=0, atol=atol)
    assert left.total_weight == rest.total_weight
    everything = subtract(whole, whole)
    assert not any(leaf.any() for leaf in jax.tree.leaves(everything))


def test_epochs_are_augmented_each_in_its_own_way_and_added():
    _, variables, data = world("geometry")
    got = measure_in("geometry", augment=AUGMENT, epochs=2)(variables, data)
    epochs = [
        measure_in("geometry")(
            variables, data._replace(x=AUGMENT(data.x, data.id, pass_))
        )
        for pass_ in range(2)
    ]
    expected = jax.tree.map(jnp.add, *epochs)
    assert_near(got.values, expected.values)
    assert got.total_weight == 2 * WEIGHT.sum()
    assert np.abs(epochs[0].values["Conv_0"] - epochs[1].values["Conv_0"]).max() > 1


def test_many_models_are_a_vmap():
    _, variables, data = world("perceptron")
    models = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), variables)
    run = measure_in("perceptron")
    got = jax.vmap(run, (0, None))(models, data)
    for index in range(2):
        one = jax.tree.map(lambda leaf, at=index: leaf[at], models)
        alone = {path: gram[index] for path, gram in got.values.items()}
        assert_near(alone, run(one, data).values)


def scaled(x, id, pass_):
    """Another example, another pass, another size."""
    return x * (1 + id + ROWS * pass_)[:, None]


@pytest.mark.parametrize(
    ("sizes", "jitted"),
    [
        ({"examples": 8}, True),
        ({"population": 2, "examples": 3}, True),
        ({"population": 2, "examples": 3}, False),
    ],
)
def test_many_devices_equal_one(sizes, jitted):
    """Ten rows do not divide by eight or three."""
    classifier, variables, data = world("perceptron")
    options = dict(batch_size=2, augment=scaled, epochs=2)
    mesh = sharding.make_mesh(**sizes)
    run = functools.partial(measure, classifier, mesh=mesh, **options)
    got = (jax.jit(run) if jitted else run)(variables, data)
    expected = measure_in("perceptron", **options)(variables, data)
    assert_near(jax.device_get(got.values), expected.values)
    assert got.total_weight == expected.total_weight
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(got))


def equations(jaxpr, inside=()):
    """Every equation, and the primitives that it is inside of."""
    for equation in jaxpr.eqns:
        yield equation, inside
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner, (*inside, equation.primitive.name))


def test_devices_speak_once():
    _, variables, data = world("geometry")
    mesh = sharding.make_mesh(examples=8)
    run = measure_in("geometry", batch_size=1, augment=AUGMENT, epochs=2, mesh=mesh)
    traced = run.trace(variables, data)
    sums = [
        inside
        for equation, inside in equations(traced.jaxpr.jaxpr)
        if "psum" in equation.primitive.name
    ]
    assert sums and not any("scan" in inside for inside in sums)
    text = traced.lower().compile().as_text()
    assert text.count(" all-reduce(") == 1
    assert not any(word in text for word in ("all-gather", "all-to-all"))


def test_a_frozen_bias_has_no_row():
    _, variables, data = world("geometry")
    whole = measure_in("geometry")(variables, data)
    cut = without_bias(whole, variables["params"])
    assert cut.total_weight == whole.total_weight
    for path, gram in whole.values.items():
        biased = "bias" in variables["params"][path]
        expected = gram[:, :-1, :-1] if biased else gram
        np.testing.assert_array_equal(cut.values[path], expected)
    chex.assert_trees_all_equal(without_bias(cut, variables["params"]), cut)


def test_without_taps_there_is_an_error():
    data = world("perceptron")[2]
    classifier = hf.from_functions(
        lambda key, x: jnp.ones((6, NUM_CLASSES)), lambda p, x: x @ p, description="own"
    )
    variables = classifier.init(jax.random.key(0), data.x)
    for one in (classifier, classifier._replace(taps=None, tapped=None)):
        with pytest.raises(ValueError, match=r"taps.*own.*hf.from_linen.*models.dense"):
            measure(one, variables, data)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (dict(batch_size=0), "batch_size must be positive, got batch_size=0"),
        (dict(epochs=0), "epochs must be positive, got epochs=0"),
        (dict(epochs=3), "epochs=3 without augment"),
        (
            dict(mesh=jax.sharding.Mesh(jax.devices()[:1], ("rows",))),
            r"axes \('rows',\), not 'examples'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, what):
    with pytest.raises(ValueError, match=what):
        measure(*world("perceptron"), **options)


def test_other_layers_are_refused_by_name():
    one = jnp.ones((1, 2, 2))
    grams = Grams({"A": one, "B": one}, jnp.float32(1))
    other = Grams({"A": one, "C": one}, jnp.float32(1))
    wider = Grams({"A": one, "B": jnp.ones((1, 3, 3))}, jnp.float32(1))
    with pytest.raises(ValueError, match="Layer 'B' is in one"):
        subtract(grams, other)
    with pytest.raises(ValueError, match=r"'B' have the shapes \(1, 2, 2\) and"):
        subtract(grams, wider)
