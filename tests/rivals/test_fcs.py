"""FCS: one step of each kind by hand."""

import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.fcs import contrast, flatness
from tests.rivals.by_numpy import (
    CLASSIFIER,
    GONE,
    KEPT,
    ROWS,
    VARIABLES,
    X,
    assert_weights,
    backward,
    forward,
    gradient,
    softmax,
    unlearned,
    weights,
)


def moved(w, rate, along):
    return [one - rate * g for one, g in zip(w, along, strict=True)]


def test_a_round_is_three_gradients_by_hand():
    w = weights(VARIABLES)
    flat = softmax(forward(w, X[GONE])[1]) - 1 / 4
    w = moved(w, 0.3, backward(w, X[GONE], flat / len(GONE)))
    others = forward(w, X[KEPT])[1]
    alike = softmax(forward(w, X[GONE])[1] @ others.T / 2.0)
    pushed = (alike - 1 / len(KEPT)) @ others / 2.0
    w = moved(w, 0.2, backward(w, X[GONE], pushed / len(GONE)))
    w = moved(w, 0.1, gradient(w, KEPT))
    unlearner = hf.rivals.fcs(
        CLASSIFIER,
        first_optimizer=optax.sgd(0.3),
        forget_optimizer=optax.sgd(0.2),
        optimizer=optax.sgd(0.1),
        temperature=2.0,
        rounds=1,
        first_steps=1,
        forget_steps=1,
        retain_steps=1,
        batch_size=64,
    )
    assert_weights(unlearned(unlearner, ROWS).variables, w)


@pytest.mark.slow
def test_forgotten_rows_come_to_resemble_all_retained_ones_alike():
    unlearner = hf.rivals.fcs(
        CLASSIFIER,
        forget_optimizer=optax.adam(1e-2),
        optimizer=optax.adam(1e-3),
        retain_steps=5,
    )

    def spread(variables):
        w = weights(variables)
        alike = forward(w, X[GONE])[1] @ forward(w, X[KEPT])[1].T
        return alike.std(axis=1).mean()

    after = unlearned(unlearner, ROWS).variables
    assert spread(after) < 0.5 * spread(VARIABLES)


SIZES = ["rounds", "first_steps", "forget_steps", "retain_steps", "batch_size"]


@pytest.mark.parametrize("name", [*SIZES, "temperature"])
def test_bad_settings_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        hf.rivals.fcs(CLASSIFIER, **{name: 0})


def test_losses_are_what_they_are_called():
    logits = np.array([[2.0, 0.0, 1.0]])
    shares = softmax(logits)
    np.testing.assert_allclose(
        flatness(logits), np.mean(np.log(1 / 3 / shares), axis=1), rtol=1e-6
    )
    others = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    expected = -np.log(softmax(logits @ others.T / 2)).mean(axis=1)
    np.testing.assert_allclose(contrast(logits, others, 2.0), expected, rtol=1e-6)
