"""Bad teaching: which teacher an example has, and two steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax
from scipy.stats import entropy

import hyperforget_jax as hf
from hyperforget_jax.rivals.distillation import divergence
from tests.rivals import by_hand

KEY = jax.random.key(2)


def test_the_divergence_is_that_of_softened_predictions():
    random = np.random.default_rng(0)
    teacher, student = random.normal(scale=3, size=(2, 7, 4))
    for temperature in (1, 2.5):
        found = divergence(jnp.asarray(teacher), jnp.asarray(student), temperature)
        one, other = (softmax(z / temperature, axis=1) for z in (teacher, student))
        expected = temperature**2 * entropy(one, other, axis=1)
        # Single precision of sums of four terms.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_two_steps_are_those_of_two_teachers_by_hand():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.bad_teaching(
        classifier,
        retained_share=1.0,
        optimizer=optax.sgd(0.1),
        steps=2,
        batch_size=80,  # Each of forty rows is drawn twice.
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    params = by_hand.double(variables)
    bad = classifier.init(jax.random.split(KEY, 3)[0], data.x)
    good, bad = (
        by_hand.softmax(by_hand.logits(teacher, x))
        for teacher in (params, by_hand.double(bad))
    )
    target = np.where(gone[:, None], bad, good)
    for _ in range(2):
        params = by_hand.step(params, by_hand.distillation(params, x, target), 0.1)
    by_hand.assert_close(found, params)


@pytest.mark.slow
def test_a_share_of_the_retained_takes_part():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.bad_teaching(
        classifier,
        retained_share=1e-6,
        optimizer=optax.sgd(0.1),
        steps=2,
        batch_size=20,
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    params = by_hand.double(variables)
    bad = by_hand.double(classifier.init(jax.random.split(KEY, 3)[0], data.x))
    target = by_hand.softmax(by_hand.logits(bad, x[gone]))
    for _ in range(2):
        gradients = by_hand.distillation(params, x[gone], target)
        params = by_hand.step(params, gradients, 0.1)
    by_hand.assert_close(found, params)


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=r"retained_share must lie in \(0, 1\]"):
        hf.rivals.bad_teaching(by_hand.world().classifier, retained_share=share)
