"""SVD forgetting: the closed form by matrix inverses, and what it leaves alone."""

import chex
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import subspace
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


def kept(inputs, alpha):
    """``alpha R ((alpha - 1) R + I)^-1``, with R the moments over their trace."""
    moments = inputs.T @ inputs
    moments /= np.trace(moments)
    eye = np.eye(len(moments))
    return alpha * moments @ np.linalg.inv((alpha - 1) * moments + eye)


def test_kernels_are_projected_and_biases_stay():
    w = weights(VARIABLES)
    for layer, inputs in ((0, X), (2, forward(w, X)[0])):
        gone, left = kept(inputs[Y == 1], 3.0), kept(inputs[Y != 1], 20.0)
        w[layer] = (np.eye(len(gone)) - gone @ (np.eye(len(left)) - left)) @ w[layer]
    unlearner = hf.rivals.svd_forgetting(CLASSIFIER, alpha_retain=20.0)
    after = unlearned(unlearner, hf.forget_classes(DATA, [1]))
    assert_weights(after.variables, w)


def test_what_retained_data_use_is_left_alone():
    """All directions, where alpha makes every use of one count as a whole one."""
    request = hf.forget_classes(DATA, [1])
    distance = [
        np.abs(weights(after.variables)[0] - weights(VARIABLES)[0]).max()
        for alpha in (1.0, 1e6)
        for after in [
            unlearned(hf.rivals.svd_forgetting(CLASSIFIER, alpha_retain=alpha), request)
        ]
    ]
    assert distance[0] > 0.1 and distance[1] < 1e-4


@pytest.mark.slow
def test_what_is_kept_is_of_the_data_that_are_left():
    request = hf.forget_classes(DATA, [1])
    after = unlearned(hf.rivals.svd_forgetting(CLASSIFIER), request)
    left = subspace.measure(CLASSIFIER, VARIABLES, request.retain)
    left = subspace.without_bias(left, VARIABLES["params"])
    # Sums of forty squares, of which ten were taken out.
    chex.assert_trees_all_close(after.store, left, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["alpha_retain", "alpha_forget", "batch_size"])
def test_bad_settings_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        hf.rivals.svd_forgetting(CLASSIFIER, **{name: 0})
