"""UNSIR: its noise by hand, impairing and repairing by hand, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.unsir import error_maximising_noise
from tests.rivals import by_hand

KEY = jax.random.key(2)


def _noise(classes, steps=2):
    world = by_hand.world()
    make = jax.jit(
        lambda variables, classes: error_maximising_noise(
            KEY,
            world.classifier,
            variables,
            world.data.x,
            classes,
            penalty=0.1,
            steps=steps,
            rows=8,
        )
    )
    return make(world.variables, jnp.asarray(classes))


def test_noise_is_adams_by_hand():
    found = _noise([False, True, False, True])
    assert found.y.tolist() == [1, 3] * 4
    assert found.weight.tolist() == [1] * 8
    params = by_hand.double(by_hand.world().variables)
    hidden, head = (params[n]["kernel"] for n in (by_hand.HIDDEN, by_hand.HEAD))
    noise = np.asarray(jax.random.normal(KEY, (8, 6)), np.float64)
    mean, square = np.zeros_like(noise), np.zeros_like(noise)
    for step in (1, 2):
        shares = by_hand.softmax(by_hand.logits(params, noise))
        by_logits = (shares - np.eye(4)[np.asarray(found.y)]) / 8
        is_on = noise @ hidden + params[by_hand.HIDDEN]["bias"] > 0
        by_noise = (by_logits @ head.T * is_on) @ hidden.T
        gradient = 0.1 * 2 * noise / 8 - by_noise
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        noise = noise - 0.1 * (mean / (1 - 0.9**step)) / (
            np.sqrt(square / (1 - 0.999**step)) + 1e-8
        )
    # Adam divides by the size of single gradients, which are rounded.
    np.testing.assert_allclose(found.x, noise, atol=1e-4)


@pytest.mark.slow
def test_one_step_of_either_kind_is_the_gradient_by_hand():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.unsir(
        classifier,
        noise_steps=1,
        impair_optimizer=optax.sgd(0.2),
        impair_steps=1,
        repair_optimizer=optax.sgd(0.1),
        repair_steps=1,
        batch_size=60,
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    noise = error_maximising_noise(
        jax.random.split(KEY, 3)[0],
        classifier,
        variables,
        data.x,
        request.classes,
        penalty=0.1,
        steps=1,
        rows=60,
    )
    params = by_hand.double(variables)
    halves = (
        by_hand.cross_entropy(params, x[~gone], y[~gone]),
        by_hand.cross_entropy(params, np.asarray(noise.x, np.float64), noise.y),
    )
    impairing = by_hand.combine(lambda a, b: (a + b) / 2, *halves)
    params = by_hand.step(params, impairing, 0.2)
    repairing = by_hand.cross_entropy(params, x[~gone], y[~gone])
    params = by_hand.step(params, repairing, 0.1)
    by_hand.assert_close(found, params)


@pytest.mark.slow
def test_noise_is_taken_for_anything_but_its_class():
    world = by_hand.world()
    first, last = (_noise([False, True, False, False], steps) for steps in (1, 40))

    def likelihood(noise):
        logits = world.classifier.apply(world.variables, noise.x)
        return float(jnp.mean(jax.nn.softmax(logits)[:, 1]))

    assert likelihood(last) < likelihood(first)
    # No class is asked for: nothing counts.
    assert not _noise([False] * 4).weight.any()


def test_rows_are_refused_where_that_can_be_seen():
    world = by_hand.world()
    unlearner = hf.rivals.unsir(world.classifier)
    state = jax.jit(unlearner.init)(KEY, world.variables, world.data)
    with pytest.raises(ValueError, match="request must be for classes"):
        unlearner.unlearn(KEY, state, hf.forget_rows(world.data, [3, 4]))


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(TypeError, match="repair_optimizer must be an optax.Gradient"):
        hf.rivals.unsir(by_hand.world().classifier, repair_optimizer=0.01)
    with pytest.raises(ValueError, match="penalty must be finite and not negative"):
        hf.rivals.unsir(by_hand.world().classifier, penalty=-0.1)


def test_inputs_that_are_looked_up_are_refused():
    world = by_hand.world()
    with pytest.raises(TypeError, match="data.x must be floating point"):
        error_maximising_noise(
            KEY,
            world.classifier,
            world.variables,
            world.data.x.astype(jnp.int32),
            world.request.classes,
            penalty=0.1,
            steps=1,
            rows=4,
        )
