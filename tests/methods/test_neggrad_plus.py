"""NegGrad+: the weighted sum of two gradients, each by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import hyperforget_jax as hf
from tests import toys

RATE = 0.1


@functools.cache
def world():
    data, classifier = toys.points(), toys.softmax_regression()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    return variables, hf.forget_classes(data, [1])


@jax.jit
def answer(beta, variables, request):
    classifier = toys.softmax_regression()
    # A pass over thirty retained rows, and three over ten forgotten ones: full means.
    unlearner = hf.neggrad_plus(
        classifier, beta=beta, optimizer=optax.sgd(RATE), steps=1, batch_size=30
    )
    state = unlearner.init(jax.random.key(1), variables, request.data)
    state, _ = unlearner.unlearn(jax.random.key(2), state, request)
    return state.variables["params"]["Dense_0"]


def by_hand(beta):
    variables, request = world()
    layer = jax.tree.map(np.float64, variables["params"]["Dense_0"])
    x, y = np.float64(request.data.x), np.asarray(request.data.y)
    p = scipy.special.softmax(x @ layer["kernel"] + layer["bias"], axis=1)
    is_y = np.arange(4) == y[:, None]
    p_y = np.sum(p, axis=1, where=is_y, keepdims=True)
    down = p - is_y
    out = p_y * np.where(is_y, 1, -p / (1 - p_y))
    gone = (y == 1)[:, None]
    slope = np.where(gone, (1 - beta) * out / 10, beta * down / 30)
    return {
        "kernel": layer["kernel"] - RATE * x.T @ slope,
        "bias": layer["bias"] - RATE * slope.sum(axis=0),
    }


def test_one_step_is_the_gradient_by_hand():
    for beta in (0.5, 0.9):
        got = answer(beta, *world())
        # Float32 sums of thirty terms.
        chex.assert_trees_all_close(got, by_hand(beta), rtol=1e-5, atol=1e-6)


def test_a_sweep_over_beta_is_a_vmap():
    betas = jnp.array([0.1, 0.5, 0.9])
    swept = jax.vmap(answer, (0, None, None))(betas, *world())
    for index, beta in enumerate(betas):
        got = jax.tree.map(lambda leaf, at=index: leaf[at], swept)
        # Float32 sums of thirty terms.
        chex.assert_trees_all_close(got, by_hand(float(beta)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5, float("nan")])
def test_beta_lies_between_zero_and_one(beta):
    with pytest.raises(ValueError, match=r"beta must lie in \(0, 1\), got beta="):
        hf.neggrad_plus(toys.softmax_regression(), beta=beta)
