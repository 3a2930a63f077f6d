"""LFSSD: the importances and the rule by hand, without labels."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.rivals import numpy_net

ROWS = np.array([0, 4, 8, 30])
ALPHA, STRENGTH = 1.5, 0.5


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    data = data._replace(weight=1 + jnp.arange(40) % 3)
    return data, classifier, jax.jit(classifier.init)(jax.random.key(0), data.x)


def importances(weights, data, rows):
    x, weight = (np.asarray(leaf, float)[rows] for leaf in (data.x, data.weight))
    each, _ = numpy_net.gradients(weights, x, 2 * numpy_net.logits(weights, x))
    return [np.tensordot(weight, np.abs(e), 1) / weight.sum() for e in each]


@functools.cache
def answers():
    data, classifier, variables = world()
    unlearner = hf.rivals.lfssd(
        classifier, alpha=ALPHA, strength=STRENGTH, batch_size=16
    )

    @jax.jit
    def answer(data):
        state = unlearner.init(jax.random.key(1), variables, data)
        request = hf.ForgetRequest(data, jnp.asarray(ROWS), jnp.zeros(4, bool))
        return state, *unlearner.unlearn(jax.random.key(2), state, request)

    relabelled = data._replace(y=(data.y + 1) % 4)
    return answer(data), answer(relabelled)


def test_what_init_keeps_is_the_mean_size_of_the_gradients():
    data, _, variables = world()
    before = answers()[0][0]
    weights = numpy_net.weights_of(variables)
    expected = importances(weights, data, np.arange(40))
    # Float32 against float64, of terms that are not negative.
    numpy_net.assert_params(before.fisher.values, expected, rtol=1e-5)


def test_dampens_by_hand():
    data, _, variables = world()
    _, after, info = answers()[0]
    weights = numpy_net.weights_of(variables)
    share = importances(weights, data, ROWS)
    whole = importances(weights, data, np.arange(40))
    chosen = [f > ALPHA * d for f, d in zip(share, whole, strict=True)]
    expected = [
        np.where(c, np.minimum(STRENGTH * d / np.where(c, f, 1), 1) * w, w)
        for c, f, d, w in zip(chosen, share, whole, weights, strict=True)
    ]
    dampened = sum(c.sum() for c in chosen) / sum(w.size for w in weights)
    assert 0 < dampened < 1
    np.testing.assert_allclose(info.dampened, dampened, rtol=1e-6)
    numpy_net.assert_params(after.variables["params"], expected, rtol=1e-5)
    # What is kept is the mean over the others; the difference of sums costs a digit.
    rest = importances(weights, data, np.setdiff1d(np.arange(40), ROWS))
    numpy_net.assert_params(after.fisher.values, rest, rtol=1e-4)


def test_labels_are_not_read():
    (_, after, _), (_, other, _) = answers()
    chex.assert_trees_all_equal(after.variables, other.variables)
    chex.assert_trees_all_equal(after.fisher, other.fisher)


def test_importances_and_fishers_make_no_ratio():
    data, classifier, variables = world()
    fisher = hf.fisher.diagonal(classifier, variables, data)
    with pytest.raises(ValueError, match="mixed estimators.*output_sensitivity"):
        hf.fisher.check_comparable(fisher, answers()[0][0].fisher)


@pytest.mark.parametrize("name", ["alpha", "strength", "batch_size"])
def test_hyper_parameters_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.lfssd(toys.perceptron(), **{name: 0})
