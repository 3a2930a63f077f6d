"""l1-sparse: two steps by hand, and what the penalty is."""

import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests.rivals import by_hand


def test_two_steps_are_the_gradients_by_hand_under_a_falling_penalty():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.l1_sparse(
        classifier,
        penalty=0.2,
        optimizer=optax.sgd(0.1),
        steps=2,
        batch_size=60,  # Thirty rows are retained, and each is drawn twice.
    )
    found = by_hand.world().unlearn(unlearner, jax.random.key(2))
    params = by_hand.double(variables)
    for rate in (0.2, 0.1):
        gradients = by_hand.cross_entropy(params, x[~gone], y[~gone])
        penalised = by_hand.combine(
            lambda by, at, rate=rate: by + rate * np.sign(at), gradients, params
        )
        params = by_hand.step(params, penalised, 0.1)
    by_hand.assert_close(found, params)


@pytest.mark.slow
def test_without_a_penalty_it_is_finetuning_and_with_one_weights_are_smaller():
    world = by_hand.world()
    options = dict(optimizer=optax.sgd(0.1), steps=20, batch_size=16)

    def sizes(unlearner):
        variables = world.unlearn(unlearner, jax.random.key(2))
        return np.concatenate([np.abs(a).ravel() for a in jax.tree.leaves(variables)])

    finetuned = sizes(hf.finetune(world.classifier, **options))
    free, held = (
        sizes(hf.rivals.l1_sparse(world.classifier, penalty=penalty, **options))
        for penalty in (0.0, 0.05)
    )
    # Two programs round in their own ways, and twenty steps hand that on.
    np.testing.assert_allclose(free, finetuned, atol=1e-5)
    # Twenty steps of a tenth, and half of the penalty on average: 0.05 for each weight.
    assert held.sum() < free.sum() - 0.02 * free.size


@pytest.mark.parametrize("penalty", [-1.0, float("inf"), float("nan")])
def test_a_penalty_that_is_none_is_refused(penalty):
    with pytest.raises(ValueError, match="penalty must be finite and not negative"):
        hf.rivals.l1_sparse(by_hand.world().classifier, penalty=penalty)
