"""DAMP: the closed form by least squares, and what it cannot see any more."""

import jax
import numpy as np
import pytest

import hyperforget_jax as hf
from tests.rivals.by_numpy import (
    CLASSIFIER,
    DATA,
    VARIABLES,
    X,
    Y,
    assert_weights,
    forward,
    unlearned,
    weights,
)

UNLEARNER = hf.rivals.damp(CLASSIFIER)


def means(inputs):
    return np.stack([inputs[Y == label].mean(axis=0) for label in range(4)])


def separability(inputs):
    between = (means(inputs)[Y] - inputs.mean(axis=0)) ** 2
    return between.sum() / ((inputs - inputs.mean(axis=0)) ** 2).sum()


def test_kernels_lose_what_forgotten_means_have_of_their_own():
    w = weights(VARIABLES)
    inputs = {0: X, 2: forward(w, X)[0]}
    apart = {layer: separability(given) for layer, given in inputs.items()}
    for layer, given in inputs.items():
        gone, left = means(given)[[1, 3]].T, means(given)[[0, 2]].T
        own = gone - left @ np.linalg.lstsq(left, gone, rcond=None)[0]
        projection = own @ np.linalg.pinv(own)
        share = apart[layer] / max(apart.values())
        w[layer] = w[layer] - share * projection @ w[layer]
    after = unlearned(UNLEARNER, hf.forget_labels([1, 3], num_classes=4))
    assert_weights(after.variables, w)


def test_retained_means_are_seen_as_before():
    after = unlearned(UNLEARNER, hf.forget_classes(DATA, [2])).variables
    w, new = weights(VARIABLES), weights(after)
    for layer, given in ((0, X), (2, forward(w, X)[0])):
        seen = means(given) @ (new[layer] - w[layer])
        np.testing.assert_allclose(seen[[0, 1, 3]], 0, atol=1e-5)
        assert np.abs(seen[2]).max() > 0.01


def test_prototypes_of_forgotten_classes_are_erased():
    after = unlearned(UNLEARNER, hf.forget_classes(DATA, [2]))
    np.testing.assert_array_equal(after.prototypes.count, [10, 10, 0, 10])
    assert not any(sums[2].any() for sums in after.prototypes.sums.values())
    again, _ = jax.jit(UNLEARNER.unlearn)(
        jax.random.key(3), after, hf.forget_classes(DATA, [2])
    )
    assert_weights(again.variables, weights(after.variables), atol=0)


def test_single_rows_have_no_direction():
    after = unlearned(UNLEARNER, hf.forget_rows(DATA, [0, 1], num_classes=4))
    assert_weights(after.variables, weights(VARIABLES), atol=0)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="batch_size"):
        hf.rivals.damp(CLASSIFIER, batch_size=0)
