"""The diagonal Fisher against single gradients, closed forms and float64."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import hyperforget_jax as hf
from hyperforget_jax import trees
from tests import toys

# Sums of forty float32 squares in another order.
CLOSE = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-9)
both_estimators = pytest.mark.parametrize("estimator", hf.fisher.ESTIMATORS)


@functools.cache
def world(make=toys.perceptron):
    classifier, data = make(), toys.points()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    return classifier, variables, data


@functools.cache
def jitted(make=toys.perceptron, **options):
    """``(variables, data) -> values of the Fisher``, compiled once a shape."""
    measure = functools.partial(hf.fisher.diagonal, make(), **options)
    return jax.jit(lambda variables, data: measure(variables, data).values)


def mean_of_squares(classifier, variables, data):
    """One example after the other, squared and summed in float64."""

    def log_likelihood(params, x, y):
        logits = classifier.apply({**variables, "params": params}, x[None])
        return jax.nn.log_softmax(logits)[0, y]

    gradient = jax.jit(jax.grad(log_likelihood))
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), variables["params"])
    for x, y, weight in zip(data.x, data.y, np.asarray(data.weight), strict=True):
        one = gradient(variables["params"], x, y)
        total = jax.tree.map(
            lambda t, g, w=weight: t + w * np.square(np.asarray(g, np.float64)),
            total,
            one,
        )
    return jax.tree.map(lambda leaf: leaf / np.sum(data.weight), total)


@pytest.mark.parametrize("make", [toys.perceptron, toys.normalised])
def test_equals_single_gradients_squared(make):
    classifier, variables, data = world(make)
    data = data._replace(weight=jnp.arange(40) % 3)
    got = jitted(make, batch_size=16)(variables, data)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, variables["params"])
    CLOSE(got, mean_of_squares(classifier, variables, data))


class SoftmaxRegression(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_its_closed_form_also_where_the_label_is_certain(self):
        classifier, _, data = world(toys.softmax_regression)
        random = np.random.default_rng(0)
        # Eighths, so that float32 logits are exact and only softmax rounds.
        x = np.round(8 * random.normal(size=(40, 6))) / 8
        for scale in (1, 16):
            kernel = np.round(8 * scale * random.normal(size=(6, 4))) / 8
            bias = np.arange(4) / 8
            logits = x @ kernel + bias
            # The likeliest label: at the larger scale it rounds to certainty.
            y = logits.argmax(axis=1)
            p = scipy.special.softmax(logits, axis=1)
            is_y = np.arange(4) == y[:, None]
            # Of the label's p - 1 nothing would be left: it is what the others have.
            others = np.sum(p, axis=1, where=~is_y, keepdims=True)
            residual = np.where(is_y, -others, p)
            assert scale == 1 or np.mean(np.float32(1) - np.float32(others) == 1) > 0.5
            layer = {"kernel": np.float32(kernel), "bias": np.float32(bias)}
            known = data._replace(x=jnp.float32(x), y=jnp.int32(y))
            squared = residual**2
            for one in (classifier, classifier._replace(tapped=None)):
                got = self.variant(
                    functools.partial(hf.fisher.diagonal, one, batch_size=16)
                )({"params": {"Dense_0": layer}}, known).values["Dense_0"]
                # Of exp(-m) the relative error is that of m, a unit in its last place.
                expected = (x * x).T @ squared / 40
                np.testing.assert_allclose(got["kernel"], expected, rtol=1e-5)
                expected = np.mean(squared, axis=0)
                np.testing.assert_allclose(got["bias"], expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_matter(batch_size):
    _, variables, data = world()
    CLOSE(
        jitted(batch_size=batch_size)(variables, data),
        jitted(batch_size=16)(variables, data),
    )


def test_order_and_padding_do_not_matter():
    _, variables, data = world()
    shuffled = jax.random.permutation(jax.random.key(1), 40)
    padded = jnp.concatenate([jnp.full(5, -1), shuffled, jnp.full(3, 40)])
    expected = jitted(batch_size=16)(variables, data)
    CLOSE(jitted(batch_size=16)(variables, data.take(shuffled)), expected)
    CLOSE(jitted(batch_size=16)(variables, data.take(padded)), expected)


def test_weights_are_repetitions():
    _, variables, data = world()
    weight = np.arange(40) % 3
    repeated = data.take(jnp.asarray(np.repeat(np.arange(40), weight)))
    CLOSE(
        jitted(batch_size=16)(variables, data._replace(weight=jnp.asarray(weight))),
        jitted(batch_size=16)(variables, repeated),
    )


@both_estimators
def test_weightless_rows_are_inert_to_the_bit(estimator):
    _, variables, data = world()
    gone = jnp.array([0, 3, 17, 39])
    measure = jitted(batch_size=16, estimator=estimator)
    scribbled = toys.scribble(jax.random.key(2), data, gone)
    chex.assert_trees_all_equal(
        measure(variables, data.without(gone)),
        measure(variables, scribbled.without(gone)),
    )


@both_estimators
def test_nothing_active_gives_zero(estimator):
    _, variables, data = world()
    nothing = data._replace(weight=jnp.zeros(40, jnp.int32))
    got = jitted(batch_size=16, estimator=estimator)(variables, nothing)
    chex.assert_trees_all_equal(got, jax.tree.map(np.zeros_like, got))


def test_batch_gradient_is_the_mean_over_minibatches_of_squared_mean_gradients():
    classifier, variables, data = world()
    # The second of three minibatches is empty, and the third is half one.
    weight = jnp.array([1, 2] * 8 + [0] * 16 + [1] * 8)
    data = data._replace(weight=weight)

    def loss(params, batch):
        logits = classifier.apply({"params": params}, batch.x)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.y[:, None], 1)
        return jnp.sum(log_p[:, 0] * batch.weight) / jnp.sum(batch.weight)

    gradient = jax.jit(jax.grad(loss))
    squares = [
        jax.tree.map(np.square, gradient(variables["params"], data.take(rows)))
        for rows in (np.arange(16), np.arange(32, 40))
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *squares)
    got = jitted(batch_size=16, estimator="batch_gradient")(variables, data)
    CLOSE(got, expected)


def test_batch_gradient_is_another_number_that_depends_on_the_order():
    _, variables, data = world()
    exact = jitted(batch_size=16)(variables, data)["Dense_1"]["kernel"]
    measure = jitted(batch_size=16, estimator="batch_gradient")
    batchwise = measure(variables, data)["Dense_1"]["kernel"]
    # Cauchy-Schwarz, minibatch by minibatch; sixteen examples rarely agree.
    assert jnp.mean(batchwise) < jnp.mean(exact) / 2
    by_label = measure(variables, data.take(jnp.argsort(data.y)))["Dense_1"]["kernel"]
    assert jnp.mean(by_label) > 1.5 * jnp.mean(batchwise)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "exact"}, "estimator must be one of.*per_example.*got 'exact'"),
        ({"scope": ("Dense_7",)}, "scope has 'Dense_7'.*there are Dense_0/bias, Den"),
    ],
)
def test_unknown_options_are_refused(options, message):
    classifier, variables, data = world()
    with pytest.raises(ValueError, match=message):
        hf.fisher.diagonal(classifier, variables, data, **options)


def test_a_fisher_says_how_it_was_made():
    classifier, variables, data = world()
    data = data._replace(weight=jnp.arange(40) % 3)

    def made(data, **options):
        return jax.jit(
            lambda data: hf.fisher.diagonal(classifier, variables, data, **options)
        )(data)

    exact = made(data, batch_size=16)
    assert (exact.estimator, exact.batch_size) == ("per_example", None)
    assert exact.total_weight == jnp.sum(data.weight)
    assert exact.total_weight.dtype == jnp.float32
    # The second of three minibatches is empty.
    gap = data._replace(weight=data.weight.at[16:32].set(0))
    batched = made(gap, estimator="batch_gradient", batch_size=16)
    assert (batched.estimator, batched.batch_size, batched.total_weight) == (
        "batch_gradient",
        16,
        2,
    )
    # No minibatch has more rows than there are.
    assert made(data, estimator="batch_gradient", batch_size=99).batch_size == 40


@both_estimators
def test_a_scope_gives_that_part_of_the_whole(estimator):
    _, variables, data = world()
    whole = jitted(batch_size=16, estimator=estimator)(variables, data)
    scope = ("Dense_0/bias", "Dense_1")
    got = jitted(batch_size=16, estimator=estimator, scope=scope)(variables, data)
    CLOSE(got, trees.restrict(whole, scope))


def test_many_small_terms_do_not_drift():
    """Twenty thousand microbatches of one example each."""
    count = 20_000
    key_x, key_y = jax.random.split(jax.random.key(3))
    data = hf.Examples(
        1 + jax.random.uniform(key_x, (count, 1)),
        jax.random.bernoulli(key_y, 0.5, (count,)).astype(jnp.int32),
        jnp.ones(count, jnp.int32),
        jnp.arange(count),
    )
    classifier = hf.from_functions(
        lambda key, x: jnp.zeros(()), lambda theta, x: jnp.array([[0, 1]]) * theta * x
    )
    got = jax.jit(
        lambda data: hf.fisher.diagonal(
            classifier, {"params": jnp.float32(0)}, data, batch_size=1
        )
    )(data).values
    # At theta = 0 every gradient is x / 2, up to its sign.
    terms = np.square(np.asarray(data.x[:, 0]) / np.float32(2))
    exact = terms.astype(np.float64).mean()
    # One rounding of the sum and one of the mean are 1.2e-7.
    tolerance = 2e-7
    np.testing.assert_allclose(got, exact, rtol=tolerance)
    # The plain float32 sum drifts; cumsum takes one term after the other.
    drifted = np.cumsum(terms, dtype=np.float32)[-1] / np.float32(count)
    assert abs(drifted / exact - 1) > 5 * tolerance


@pytest.mark.slow
def test_eight_devices_equal_one():
    classifier, variables, data = world(toys.normalised)
    data = data.take(jnp.arange(39))  # Which does not divide by eight.
    mesh = hf.sharding.make_mesh(examples=8)
    placed = hf.sharding.shard_examples(data, mesh)
    variables = hf.sharding.replicate(variables, mesh)
    measure = jitted(toys.normalised, batch_size=16)
    CLOSE(measure(variables, placed), measure(world(toys.normalised)[1], data))
