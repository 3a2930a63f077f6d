"""Rewind: steps undone and taken, by hand; and noise."""

import jax
import numpy as np
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.rivals.by_numpy import (
    CLASSIFIER,
    DATA,
    KEPT,
    ROWS,
    VARIABLES,
    assert_weights,
    gradient,
    unlearned,
    weights,
)

EVERY = np.arange(40)


def moved(w, at, rate, rows):
    return [one + rate * g for one, g in zip(w, gradient(at, rows), strict=True)]


def test_two_steps_back_and_two_down_by_hand():
    w = weights(VARIABLES)
    for _ in range(2):
        guess = w
        for _ in range(3):
            guess = moved(w, guess, 0.2, EVERY)
        w = guess
    for _ in range(2):
        w = moved(w, w, -0.2, KEPT)
    unlearner = hf.rivals.rewind(
        CLASSIFIER, step_size=0.2, steps=2, noise=0.0, inner_steps=3, batch_size=16
    )
    assert_weights(unlearned(unlearner, ROWS).variables, w)


@pytest.mark.slow
def test_forgetting_nothing_comes_back_to_the_model():
    """Of a smooth loss: where a ReLU switches on the way, a step has no inverse."""
    classifier = toys.softmax_regression()
    variables = classifier.init(jax.random.key(0), DATA.x)
    absent = DATA.without(np.array([3]))
    request = hf.forget_rows(DATA, [3], num_classes=4)._replace(data=absent)
    unlearner = hf.rivals.rewind(
        classifier, step_size=0.02, steps=20, noise=0.0, inner_steps=30
    )
    state = unlearner.init(jax.random.key(1), variables, absent)
    after, _ = unlearner.unlearn(jax.random.key(2), state, request)
    kernel, start, end = (
        np.asarray(params["Dense_0"]["kernel"])
        for params in (variables["params"], state.start, after.variables["params"])
    )
    assert np.abs(start - kernel).max() > 0.1
    np.testing.assert_allclose(end, kernel, atol=1e-4)


@pytest.mark.slow
def test_noise_has_the_size_that_was_asked_for():
    quiet, noisy = (
        weights(
            unlearned(
                hf.rivals.rewind(CLASSIFIER, steps=1, noise=noise), ROWS
            ).variables
        )
        for noise in (0.0, 0.5)
    )
    added = np.concatenate([(b - a).ravel() for a, b in zip(quiet, noisy, strict=True)])
    # 59 draws: their deviation is known to one part in eleven.
    assert abs(added.std() / 0.5 - 1) < 0.35


@pytest.mark.parametrize("name", ["step_size", "steps", "inner_steps", "batch_size"])
def test_bad_settings_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        hf.rivals.rewind(CLASSIFIER, **{name: 0})
    with pytest.raises(ValueError, match="noise"):
        hf.rivals.rewind(CLASSIFIER, noise=-1.0)


def test_steps_too_long_to_be_undone_are_left_alone():
    unlearner = hf.rivals.rewind(CLASSIFIER, step_size=1e3, noise=0.0)
    after = unlearned(unlearner, ROWS)
    assert after.undone == 0
    assert_weights(after.variables, weights(VARIABLES), atol=0)
