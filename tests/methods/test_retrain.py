"""Retraining is ``fit`` on what is retained, to the bit."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

import hyperforget_jax as hf
from tests import toys

STEPS, BATCH = 5, 16


def recipe(classifier, optimizer=None):
    optimizer = optax.adam(0.01) if optimizer is None else optimizer
    unlearner = hf.retrain(classifier, optimizer, STEPS, batch_size=BATCH)

    def fit(key, data):
        return hf.fit(key, classifier, data, optimizer, STEPS, batch_size=BATCH)

    return unlearner, fit


def test_equals_fit_on_the_retained_rows_to_the_bit():
    data, classifier = toys.points(), toys.normalised()
    # Not Adam: see the bias ahead of BatchNorm in the methods' table.
    unlearner, fit = recipe(classifier, optax.sgd(0.05))
    state = unlearner.init(jax.random.key(0), fit(jax.random.key(1), data), data)
    few = hf.forget_rows(data, [0, 5, 9], capacity=10)
    for request in (hf.forget_classes(data, [2]), few):
        arguments = jax.random.key(2), state, request
        after, info = unlearner.unlearn(*arguments)
        expected = fit(jax.random.key(2), request.retain)
        chex.assert_trees_all_equal(after.variables, expected)
        # The compiler may round one program as it does not another.
        jitted, _ = jax.jit(unlearner.unlearn)(*arguments)
        chex.assert_trees_all_close(jitted.variables, expected, atol=1e-5)
        assert info.loss.shape == (STEPS,) and info.failed_at == -1


def test_nothing_of_the_old_model_is_left():
    data, classifier = toys.points(), toys.perceptron()
    unlearner, _ = recipe(classifier)
    request = hf.forget_classes(data, [2])
    unlearn = jax.jit(unlearner.unlearn)
    states = [
        unlearner.init(jax.random.key(0), classifier.init(key, data.x), data)
        for key in jax.random.split(jax.random.key(3), 2)
    ]
    chex.assert_trees_all_equal(
        *(unlearn(jax.random.key(2), state, request)[0] for state in states)
    )


@pytest.mark.slow
def test_a_sweep_over_learning_rates_is_a_vmap():
    data, classifier = toys.points(), toys.softmax_regression()
    request = hf.forget_classes(data, [2])

    def answer(rate):
        unlearner, _ = recipe(classifier, optax.sgd(rate))
        variables = classifier.init(jax.random.key(1), data.x)
        state = unlearner.init(jax.random.key(0), variables, data)
        return unlearner.unlearn(jax.random.key(2), state, request)[0].variables

    swept = jax.jit(jax.vmap(answer))(jnp.array([0.01, 0.1]))
    # Batched products sum in another order.
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], swept), jax.jit(answer)(0.1), atol=1e-5
    )


@pytest.mark.slow
def test_no_key_is_used_twice():
    data, classifier = toys.points(), toys.softmax_regression()
    unlearner, fit = recipe(classifier)
    request = hf.forget_classes(data, [2])

    @jax.jit
    def twice(key):
        return jax.random.normal(key) + jax.random.uniform(key)

    with jax.debug_key_reuse(True):
        with pytest.raises(jax.errors.KeyReuseError):
            twice(jax.random.key(0))
        variables = jax.jit(fit)(jax.random.key(1), data)
        state = unlearner.init(jax.random.key(2), variables, data)
        jax.jit(unlearner.unlearn)(jax.random.key(3), state, request)
