"""ASSD: the threshold, and the rule by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.methods.dampening import adaptive_alpha
from tests import toys
from tests.rivals import numpy_net

ROWS = np.array([0, 4, 8, 30])


def fisher(values, total):
    return hf.fisher.Fisher(
        {"w": jnp.asarray(values, jnp.float32)}, jnp.float32(total), "per_example", None
    )


@pytest.mark.parametrize("share, percentile", [(0.1, 97.60), (0.01, 99.31), (0, 100)])
def test_the_threshold_is_a_percentile_of_the_ratios(share, percentile):
    rng = np.random.default_rng(0)
    data, forget = rng.uniform(1, 2, 5000), rng.uniform(1, 2, 5000)
    data[:3], forget[:2] = 0, 0  # Two ratios that are no numbers, and an infinite one.
    found = adaptive_alpha(fisher(forget, 1000 * share), fisher(data, 1000))
    # The percentile is given to two digits: a ratio more or less.
    expected = np.percentile(forget[3:] / data[3:], percentile)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_without_a_finite_ratio_nothing_is_selected():
    assert adaptive_alpha(fisher([0, 1], 1), fisher([0, 0], 10)) == np.inf


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    return data, classifier, jax.jit(classifier.init)(jax.random.key(0), data.x)


def test_dampens_by_hand():
    data, classifier, variables = world()
    unlearner = hf.rivals.assd(classifier, batch_size=16)

    @jax.jit
    def answer(data, request):
        state = unlearner.init(jax.random.key(1), variables, data)
        return unlearner.unlearn(jax.random.key(2), state, request)

    after, info = answer(data, hf.forget_rows(data, ROWS, num_classes=4))
    weights = numpy_net.weights_of(variables)

    def squares(rows):
        x, y = np.asarray(data.x, float)[rows], np.asarray(data.y)[rows]
        out = numpy_net.residuals(weights, x, y)
        return [np.square(e).mean(0) for e in numpy_net.gradients(weights, x, out)[0]]

    share, whole = squares(ROWS), squares(np.arange(40))
    pairs = list(zip(share, whole, strict=True))
    with np.errstate(invalid="ignore"):
        ratios = np.concatenate([(f / d).ravel() for f, d in pairs])
    alpha = np.nanpercentile(ratios, 100 - np.log(1 + 100 * 4 / 40))
    expected = [
        np.where(f > alpha * d, w * np.minimum(d / np.where(f > 0, f, 1), 1), w)
        for (f, d), w in zip(pairs, weights, strict=True)
    ]
    # The two or so largest of 59 ratios: how many is no matter of tuning.
    selected = np.mean(np.nan_to_num(ratios) > alpha)
    assert 0 < selected < 0.1
    np.testing.assert_allclose(info.dampened, selected, rtol=1e-6)
    # Float32 against float64.
    numpy_net.assert_params(after.variables["params"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["strength", "batch_size"])
def test_hyper_parameters_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.assd(toys.perceptron(), **{name: 0})
