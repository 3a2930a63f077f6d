"""MSG: which weights are drawn anew, and how slowly the others move."""

import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.msg import _FRESH
from tests.rivals.by_numpy import (
    CLASSIFIER,
    GONE,
    KEPT,
    ROWS,
    VARIABLES,
    assert_weights,
    gradient,
    unlearned,
    weights,
)


def answer(rate):
    unlearner = hf.rivals.msg(
        CLASSIFIER, optimizer=optax.sgd(rate), steps=1, batch_size=64
    )
    return unlearned(unlearner, ROWS).variables


def test_the_smallest_gradients_are_drawn_anew_and_the_others_slowed_down():
    w = weights(VARIABLES)
    spoiled = weights(answer(0.0))
    difference = gradient(w, KEPT)[0] - gradient(w, GONE)[0]
    order = np.argsort(np.abs(difference), axis=None)
    drawn = np.zeros(difference.size, bool)
    drawn[order[:9]] = True  # Of 30, thirty per cent.
    drawn = drawn.reshape(difference.shape)
    np.testing.assert_array_equal(spoiled[0] != w[0], drawn)
    for found, before in zip(spoiled[1:], w[1:], strict=True):
        np.testing.assert_array_equal(found, before)  # The head, and biases.

    rates = [np.where(drawn, 1, 0.1), 1, 1, 1]
    steps = zip(spoiled, rates, gradient(spoiled, KEPT), strict=True)
    assert_weights(answer(0.5), [w - 0.5 * rate * g for w, rate, g in steps])


def test_what_is_drawn_has_the_scale_of_a_fresh_network():
    kernel = _FRESH(jax.random.key(0), (3, 3, 16, 64))
    # 9216 draws: their deviation is known to one part in 136.
    assert abs(kernel.std() / np.sqrt(2 / (9 * 64)) - 1) < 0.03


@pytest.mark.parametrize("name", ["fraction", "rate", "steps", "batch_size"])
def test_bad_settings_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        hf.rivals.msg(CLASSIFIER, **{name: 0})
