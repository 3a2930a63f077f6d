"""SalUn: which weights, one step by hand, and what does not move by a bit."""

import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.random_labels import wrong_labels
from hyperforget_jax.rivals.salun import salient
from tests.rivals import by_hand

KEY = jax.random.key(2)


def _mask(params, x, y, share):
    """By ranks; ties, which are of zeros alone here, are never marked."""
    gradients = by_hand.cross_entropy(params, x, y)
    sizes = by_hand.combine(np.abs, gradients)
    flat = np.concatenate([a.ravel() for a in jax.tree.leaves(sizes)])
    least = np.sort(flat)[::-1][int(np.ceil(share * flat.size)) - 1]
    return by_hand.combine(lambda size: (size >= least) & (size > 0), sizes)


@pytest.mark.slow
def test_one_step_is_the_masked_gradient_by_hand_and_the_rest_stays():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.salun(
        classifier,
        share=0.3,
        # Decay would move what is masked out, if it were not held.
        optimizer=optax.chain(
            optax.add_decayed_weights(0.3), optax.sgd(0.1, momentum=0.9)
        ),
        steps=1,
        batch_size=60,
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    params = by_hand.double(variables)
    mask = _mask(params, x[gone], y[gone], 0.3)
    assert 0 < sum(m.sum() for m in jax.tree.leaves(mask)) <= np.ceil(0.3 * 59)
    forget = request.forget
    wrong = np.asarray(wrong_labels(jax.random.split(KEY)[0], forget.y, 4))
    halves = (
        by_hand.cross_entropy(params, x[~gone], y[~gone]),
        by_hand.cross_entropy(params, np.asarray(forget.x, np.float64), wrong),
    )
    stepped = by_hand.combine(
        lambda a, b, at, moves: moves * ((a + b) / 2 + 0.3 * at), *halves, params, mask
    )
    by_hand.assert_close(found, by_hand.step(params, stepped, 0.1))
    for layer, leaves in mask.items():
        for name, moves in leaves.items():
            after, before = (v["params"][layer][name] for v in (found, variables))
            np.testing.assert_array_equal(after[~moves], before[~moves])


@pytest.mark.slow
def test_what_is_masked_out_never_moves_and_a_full_share_is_random_labels():
    world = by_hand.world()
    options = dict(optimizer=optax.adamw(0.01, weight_decay=0.1), batch_size=8)
    data, classifier, variables, request, x, y, gone = world
    found = world.unlearn(
        hf.rivals.salun(classifier, share=0.5, steps=20, **options), KEY
    )
    mask = _mask(by_hand.double(variables), x[gone], y[gone], 0.5)
    for layer, leaves in mask.items():
        for name, moves in leaves.items():
            after, before = (v["params"][layer][name] for v in (found, variables))
            np.testing.assert_array_equal(np.asarray(after != before), moves)
    # All that has a gradient at all: what has none is not moved by labels either.
    plain = dict(optimizer=optax.sgd(0.01), steps=1, batch_size=60)
    whole = world.unlearn(hf.rivals.salun(classifier, share=1.0, **plain), KEY)
    every = salient(classifier, variables, request.forget, 1.0, 8)
    labels = world.unlearn(hf.rivals.random_labels(classifier, **plain), KEY)
    for chosen, one, other in zip(
        *map(jax.tree.leaves, (every, whole["params"], labels["params"])), strict=True
    ):
        # Two programs round in their own ways.
        np.testing.assert_allclose(one[chosen], other[chosen], atol=1e-6)


def test_the_mask_is_that_by_hand_whatever_the_microbatches_are():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    expected = _mask(by_hand.double(variables), x[gone], y[gone], 0.4)
    for batch_size in (3, 64):
        found = salient(classifier, variables, request.forget, 0.4, batch_size)
        for layer, leaves in expected.items():
            for name, leaf in leaves.items():
                np.testing.assert_array_equal(found[layer][name], leaf)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        hf.rivals.salun(by_hand.world().classifier, share=share)
