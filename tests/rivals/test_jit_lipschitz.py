"""JiT: the ratio and its gradient by hand, one step, and what is not read."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.jit_lipschitz import lipschitz_ratio
from tests import toys
from tests.rivals import numpy_net

SIGMA = 0.8


def by_hand(weights, x, keys):
    """The ratio, and its gradient by the weights through the unmoved inputs alone."""
    total, gradient = 0.0, [np.zeros_like(w) for w in weights]
    for key in keys:
        noise = SIGMA * np.asarray(jax.random.normal(key, x.shape), float)
        moved = np.clip(x + noise, x.min(), x.max())
        change = numpy_net.logits(weights, x) - numpy_net.logits(weights, moved)
        size = np.linalg.norm(change, axis=1)
        length = np.linalg.norm(moved - x, axis=1)
        scale = len(keys) * len(x) * length
        total += (size / scale).sum()
        out = change / (size * scale)[:, None]
        each, _ = numpy_net.gradients(weights, x, out)
        gradient = [g + e.sum(axis=0) for g, e in zip(gradient, each, strict=True)]
    return total, gradient


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    return data, classifier, jax.jit(classifier.init)(jax.random.key(0), data.x)


def test_the_ratio_and_its_gradient_are_those_by_hand():
    data, classifier, variables = world()
    keys = jax.random.split(jax.random.key(4), 3)

    def ratio(params):
        return lipschitz_ratio(classifier, {"params": params}, data, keys, SIGMA)

    value, gradient = jax.jit(jax.value_and_grad(ratio))(variables["params"])
    expected = by_hand(
        numpy_net.weights_of(variables), np.asarray(data.x, float), list(keys)
    )
    # Float32 against float64.
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    numpy_net.assert_params(gradient, expected[1], rtol=1e-4, atol=1e-6)


def test_one_step_and_labels_are_not_read():
    data, classifier, variables = world()
    unlearner = hf.rivals.jit_lipschitz(
        classifier,
        sigma=SIGMA,
        draws=2,
        optimizer=optax.sgd(0.5),
        steps=1,
        batch_size=1,
    )
    unlearn = jax.jit(unlearner.unlearn)
    state = unlearner.init(jax.random.key(1), variables, data)
    answers = [
        unlearn(jax.random.key(2), state, hf.forget_rows(d, [5], num_classes=4))[0]
        for d in (data, data._replace(y=(data.y + 1) % 4))
    ]
    chex.assert_trees_all_equal(*answers)
    # The training loop's key of the first step.
    _, key_step = jax.random.split(jax.random.key(2))
    keys = jax.random.split(jax.random.fold_in(key_step, 0), 2)
    weights = numpy_net.weights_of(variables)
    _, gradient = by_hand(weights, np.asarray(data.x, float)[5:6], list(keys))
    expected = [w - 0.5 * g for w, g in zip(weights, gradient, strict=True)]
    # Float32 against float64, after a division by the noise's length.
    numpy_net.assert_params(answers[0].variables["params"], expected, atol=1e-5)


def test_where_clipping_leaves_no_noise_nothing_moves():
    data, classifier, variables = world()
    constant = data._replace(x=jnp.ones_like(data.x))

    def ratio(params):
        keys = jax.random.split(jax.random.key(4), 2)
        return lipschitz_ratio(classifier, {"params": params}, constant, keys, SIGMA)

    value, gradient = jax.jit(jax.value_and_grad(ratio))(variables["params"])
    assert value == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", ["sigma", "draws", "steps", "batch_size"])
def test_hyper_parameters_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.jit_lipschitz(toys.perceptron(), **{name: 0})
