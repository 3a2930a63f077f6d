"""Projected-gradient unlearning of real data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests.methods.pgu_worlds import KEY


@functools.cache
def digits():
    """``((train, test, train with noise), label_of, fit, method of a config)``."""
    splits, rng = hf.data.load("digits"), np.random.default_rng(0)

    def noisy(examples):
        """Some labels are drawn: they can be known by heart, and not be guessed."""
        y = np.array(examples.y)
        drawn = rng.random(y.size) < 0.05
        y[drawn] = rng.integers(0, 10, drawn.sum())
        return examples._replace(y=jnp.asarray(y))

    classifier = hf.from_linen(hf.models.MLP((256,)))
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 600))
    fit = jax.jit(
        lambda data: hf.fit(KEY, classifier, data, optimizer, 600, batch_size=64)
    )
    train, probe = noisy(splits.train), noisy(splits.probe)
    return (
        (splits.train, splits.test, train),
        jax.jit(lambda variables, x: classifier.apply(variables, x).argmax(axis=1)),
        fit,
        lambda config: hf.pgu(classifier, config, probe=probe),
    )


def test_a_class_is_forgotten_and_the_others_are_kept():
    (train, test, _), label_of, fit, method = digits()
    original, unlearner = fit(train), method(hf.PGUConfig())
    state, unlearn = unlearner.init(KEY, original, train), jax.jit(unlearner.unlearn)
    y = np.asarray(test.y)
    before = np.asarray(label_of(original, test.x)) == y
    for label in (3, 8):
        request = hf.forget_classes(train, [label], capacity=128)
        after, _ = unlearn(KEY, state, request)
        now = np.asarray(label_of(after.variables, test.x)) == y
        own = y == label
        assert before[own].mean() > 0.9 and before[~own].mean() > 0.95
        assert now[own].mean() <= 0.01
        assert now[~own].mean() >= before[~own].mean() - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("config", [hf.PGUConfig(), hf.PGUConfig.rows()])
def test_rows_are_answered_as_if_they_had_not_been_learnt(config):
    (_, _, train), label_of, fit, method = digits()
    original, unlearner = fit(train), method(config)
    state, unlearn = unlearner.init(KEY, original, train), jax.jit(unlearner.unlearn)
    # Three requests of five per cent.
    order = np.random.default_rng(1).permutation(1118)[:168]
    found = []
    for gone in np.split(order, 3):
        request = hf.forget_rows(train, gone, capacity=128)
        rest = np.setdiff1d(np.arange(1118), gone)
        after, _ = unlearn(KEY, state, request)
        models = (original, fit(request.retain), after.variables)
        right = [np.asarray(label_of(v, train.x) == train.y) for v in models]
        found.append([(each[gone].mean(), each[rest].mean()) for each in right])
    forget, retain = np.mean(found, axis=0).T
    # Else leaving the model as it is would do.
    assert forget[0] > forget[1] + 0.05 and retain[0] >= 0.99
    assert abs(forget[2] - forget[1]) <= 0.05
    assert retain[2] >= 0.99
