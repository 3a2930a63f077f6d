"""ReGUn: the targets, and two steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.regun import held_out_predictions
from tests import toys
from tests.rivals import by_hand

KEY = jax.random.key(2)
PROBE = toys.points(24, seed=8, first_id=100)


def _targets(params, left):
    """Means of the predictions for held-out rows by class, ``[C, C]``."""
    predicted = by_hand.softmax(by_hand.logits(params, np.asarray(PROBE.x, float)))
    y = np.asarray(PROBE.y)
    every = predicted[np.isin(y, left)].mean(axis=0)
    return np.array(
        [predicted[y == c].mean(axis=0) if c in left else every for c in range(4)]
    )


@pytest.mark.parametrize("scenario", ["class", "rows"])
def test_two_steps_are_those_by_hand(scenario):
    data, classifier, variables, request, x, y, gone = by_hand.world()
    if scenario == "rows":
        gone = np.arange(40) % 5 == 0
        request = hf.forget_rows(data, np.flatnonzero(gone), num_classes=4)
    # Minibatches that hold every row of either half as often as another.
    unlearner = hf.rivals.regun(
        classifier, probe=PROBE, optimizer=optax.sgd(0.1), steps=2, batch_size=480
    )
    state = unlearner.init(jax.random.key(1), variables, data)
    found = jax.jit(unlearner.unlearn)(KEY, state, request)[0].variables
    params = by_hand.double(variables)
    target = _targets(params, np.unique(y[~gone]))[y[gone]]
    for _ in range(2):
        kept = by_hand.cross_entropy(params, x[~gone], y[~gone])
        lost = by_hand.distillation(params, x[gone], target)
        both = by_hand.combine(lambda a, b: (a + b) / 2, kept, lost)
        params = by_hand.step(params, both, 0.1)
    by_hand.assert_close(found, params)


def test_a_class_without_held_out_examples_has_the_mean_of_all():
    data, classifier, variables, *_ = by_hand.world()
    few = PROBE._replace(weight=jnp.where(PROBE.y == 2, 0, PROBE.weight))
    # What weighs nothing may hold anything.
    few = few._replace(x=jnp.where((PROBE.y == 2)[:, None], jnp.nan, PROBE.x))
    found = held_out_predictions(classifier, variables, few, data)
    expected = _targets(by_hand.double(variables), [0, 1, 3])
    # Single precision of means of six rows.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    none = few._replace(weight=jnp.zeros_like(few.weight))
    assert not held_out_predictions(classifier, variables, none, data).any()


def test_a_probe_that_was_trained_on_is_refused():
    world = by_hand.world()
    unlearner = hf.rivals.regun(world.classifier, probe=world.data)
    with pytest.raises(ValueError, match="probe must be held out"):
        unlearner.init(KEY, world.variables, world.data)
