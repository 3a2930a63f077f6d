"""Ascent: its first step by hand, and where each objective leads."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import hyperforget_jax as hf
from hyperforget_jax.losses import cross_entropy
from tests import toys

RATE = 0.1


@functools.cache
def world():
    """Softmax regression, trained, and a request for the ten rows of a class."""
    data, classifier = toys.points(), toys.softmax_regression()
    fit = functools.partial(hf.fit, classifier=classifier, batch_size=16)
    variables = jax.jit(
        lambda key, data: fit(key, data=data, optimizer=optax.adam(0.03), steps=40)
    )(jax.random.key(0), data)
    return classifier, variables, hf.forget_classes(data, [1])


def unlearn(unlearner, variables, request):
    state = unlearner.init(jax.random.key(1), variables, request.data)
    return jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)


def slopes(variables, examples):
    """Gradients by the logits, float64: of unlikelihood, and of cross-entropy."""
    layer = jax.tree.map(np.float64, variables["params"]["Dense_0"])
    x = np.float64(examples.x)
    p = scipy.special.softmax(x @ layer["kernel"] + layer["bias"], axis=1)
    is_y = np.arange(4) == np.asarray(examples.y)[:, None]
    p_y = np.sum(p, axis=1, where=is_y, keepdims=True)
    return p_y * np.where(is_y, 1, -p / (1 - p_y)), p - is_y


@pytest.mark.parametrize("objective", ["unlikelihood", "cross_entropy"])
def test_one_step_is_the_gradient_by_hand(objective):
    classifier, variables, request = world()
    # A minibatch as large as the class holds each of its rows once.
    unlearner = hf.ascent(
        classifier,
        objective=objective,
        optimizer=optax.sgd(RATE),
        steps=1,
        batch_size=10,
    )
    state, info = unlearn(unlearner, variables, request)
    down, up = slopes(variables, request.forget)
    # Down the unlikelihood, or up the cross-entropy.
    slope = down if objective == "unlikelihood" else -up
    layer = jax.tree.map(np.float64, variables["params"]["Dense_0"])
    x = np.float64(request.forget.x)
    expected = {
        "kernel": layer["kernel"] - RATE * x.T @ slope / 10,
        "bias": layer["bias"] - RATE * slope.mean(axis=0),
    }
    # Float32 logits of a trained model.
    chex.assert_trees_all_close(
        state.variables["params"]["Dense_0"], expected, rtol=1e-5, atol=1e-6
    )
    assert info.loss.shape == (1,) and info.failed_at == -1


def test_both_make_the_labels_unlikely_and_only_plain_ascent_runs_on():
    classifier, variables, request = world()
    forget, loss, moved = request.forget, {}, {}
    loss["before"] = jnp.mean(
        cross_entropy(classifier.apply(variables, forget.x), forget.y)
    )
    for objective in ("unlikelihood", "cross_entropy"):
        unlearner = hf.ascent(
            classifier,
            objective=objective,
            optimizer=optax.sgd(RATE),
            steps=30,
            batch_size=10,
        )
        state, info = unlearn(unlearner, variables, request)
        logits = classifier.apply(state.variables, forget.x)
        loss[objective] = jnp.mean(cross_entropy(logits, forget.y))
        moved[objective] = optax.tree.norm(optax.tree.sub(state.variables, variables))
        assert info.loss.shape == (30,)
    # More likely to be anything else than what it was.
    assert loss["before"] < np.log(2) < loss["unlikelihood"]
    # Cross-entropy has no bound to its climb, and its loss is what it climbs.
    assert info.loss[-1] < -3 * loss["unlikelihood"]
    assert loss["cross_entropy"] > 3 * loss["unlikelihood"]
    assert moved["unlikelihood"] < moved["cross_entropy"] / 3


def test_a_sweep_over_learning_rates_is_a_vmap():
    classifier, variables, request = world()

    def answer(rate):
        unlearner = hf.ascent(
            classifier, optimizer=optax.sgd(rate), steps=2, batch_size=10
        )
        return unlearn(unlearner, variables, request)[0].variables

    rates = jnp.array([0.0, 0.01, 0.1])
    swept = jax.vmap(answer)(rates)
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], swept), variables)
    # Batched products sum in another order.
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[2], swept), answer(0.1), atol=1e-5
    )


def test_unknown_objectives_are_refused():
    with pytest.raises(ValueError, match="'cross_entropy', 'unlikelihood'.*'kl'"):
        hf.ascent(toys.softmax_regression(), objective="kl")
