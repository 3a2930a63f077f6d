"""Finetuning: its first step by hand, on the retained rows alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special

import hyperforget_jax as hf
from tests import toys

RATE = 0.1


@functools.cache
def world():
    data, classifier = toys.points(), toys.softmax_regression()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    return classifier, variables, hf.forget_classes(data, [1])


def test_one_step_is_the_gradient_by_hand():
    classifier, variables, request = world()
    # A minibatch as large as what is retained holds each of its rows once.
    unlearner = hf.finetune(
        classifier, optimizer=optax.sgd(RATE), steps=1, batch_size=30
    )
    state = unlearner.init(jax.random.key(1), variables, request.data)
    state, info = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
    layer = jax.tree.map(np.float64, variables["params"]["Dense_0"])
    kept = np.asarray(request.data.y) != 1
    x, y = (
        np.float64(request.data.x)[kept],
        np.asarray(request.data.y)[kept],
    )
    logits = x @ layer["kernel"] + layer["bias"]
    residual = scipy.special.softmax(logits, axis=1) - (np.arange(4) == y[:, None])
    expected = {
        "kernel": layer["kernel"] - RATE * x.T @ residual / 30,
        "bias": layer["bias"] - RATE * residual.mean(axis=0),
    }
    # Float32 sums of thirty terms.
    chex.assert_trees_all_close(
        state.variables["params"]["Dense_0"], expected, rtol=1e-5, atol=1e-6
    )
    log_p = scipy.special.log_softmax(logits, axis=1)[np.arange(30), y]
    np.testing.assert_allclose(info.loss, [-log_p.mean()], rtol=1e-5)


def test_a_sweep_over_learning_rates_is_a_vmap():
    classifier, variables, request = world()

    def answer(rate):
        unlearner = hf.finetune(
            classifier, optimizer=optax.sgd(rate), steps=2, batch_size=30
        )
        state = unlearner.init(jax.random.key(1), variables, request.data)
        return unlearner.unlearn(jax.random.key(2), state, request)[0].variables

    swept = jax.jit(jax.vmap(answer))(jnp.array([0.0, RATE]))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], swept), variables)
    # Batched products sum in another order.
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], swept), jax.jit(answer)(RATE), atol=1e-5
    )
