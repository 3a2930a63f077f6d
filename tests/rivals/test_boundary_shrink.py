"""Boundary shrink: the labels, and one step by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.boundary_shrink import nearest_labels
from tests import toys
from tests.rivals import numpy_net

BOUND = 0.7


def by_hand(weights, x, y, forbidden=()):
    _, slope = numpy_net.gradients(weights, x, numpy_net.residuals(weights, x, y))
    logits = numpy_net.logits(weights, x + BOUND * np.sign(slope))
    logits[np.arange(len(y)), y] = -np.inf
    logits[:, list(forbidden)] = -np.inf
    return logits.argmax(axis=1)


def world():
    data, classifier = toys.points(), toys.perceptron()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    x, y = np.asarray(data.x, float), np.asarray(data.y)
    return data, classifier, variables, numpy_net.weights_of(variables), x, y


def test_labels_are_those_beyond_the_nearest_boundary():
    data, classifier, variables, weights, x, y = world()
    for forbidden in ([], [2]):
        found = nearest_labels(
            classifier,
            variables,
            data,
            BOUND,
            jnp.isin(jnp.arange(4), jnp.array(forbidden, int)),
            batch_size=16,
        )
        np.testing.assert_array_equal(found, by_hand(weights, x, y, forbidden))
        assert not (found == y).any() and not np.isin(found, forbidden).any()
    # The step fails for some, whose label the largest of all logits would give back.
    _, slope = numpy_net.gradients(weights, x, numpy_net.residuals(weights, x, y))
    moved = numpy_net.logits(weights, x + BOUND * np.sign(slope))
    assert (moved.argmax(axis=1) == y).any()
    # And without any step some labels are others.
    assert (numpy_net.logits(weights, x).argmax(axis=1) != by_hand(weights, x, y)).any()


def test_one_step_is_the_gradient_by_hand():
    data, classifier, variables, weights, x, y = world()
    request = hf.forget_rows(data, np.arange(8), num_classes=4)
    unlearner = hf.rivals.boundary_shrink(
        classifier, bound=BOUND, optimizer=optax.sgd(0.1), steps=1, batch_size=64
    )
    state = unlearner.init(jax.random.key(1), variables, data)
    after, _ = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
    # A minibatch of 64 holds each of eight rows as often as another.
    labels = by_hand(weights, x[:8], y[:8])
    out = numpy_net.residuals(weights, x[:8], labels)
    gradient, _ = numpy_net.gradients(weights, x[:8], out)
    expected = [w - 0.1 * g.mean(0) for w, g in zip(weights, gradient, strict=True)]
    # Float32 against float64: sums of 64 terms of about one.
    numpy_net.assert_params(after.variables["params"], expected, atol=2e-6)


@pytest.mark.parametrize("name", ["bound", "steps", "batch_size"])
def test_hyper_parameters_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.boundary_shrink(toys.perceptron(), **{name: 0})
