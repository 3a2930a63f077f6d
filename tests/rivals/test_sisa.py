"""SISA: what a request trains anew, and that it is what had been trained without."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.rivals import by_hand

KEY = jax.random.key(3)


@functools.cache
def world(shards, slices):
    """Data, ``init`` and ``unlearn``, and the first state."""
    data, classifier, variables, *_ = by_hand.world()
    unlearner = hf.rivals.sisa(
        classifier,
        optax.adam(3e-2),
        15,
        shards=shards,
        slices=slices,
        batch_size=8,
    )
    init = functools.partial(unlearner.init, KEY, variables)
    return data, init, unlearner.unlearn, init(data)


@pytest.mark.parametrize("shards, slices", [(3, 1), (2, 3), (1, 1)])
@pytest.mark.parametrize("rows", [[5], [0, 1, 2, 30]])
def test_an_answer_is_what_init_gives_without_the_rows(shards, slices, rows):
    data, init, unlearn, state = world(shards, slices)
    request = hf.forget_rows(data, rows, num_classes=4)
    after, info = unlearn(jax.random.key(9), state, request)
    without = init(request.retain)
    chex.assert_trees_all_equal(after.variables, without.variables)
    chex.assert_trees_all_equal(after.earlier, without.earlier)
    assert np.asarray(info.failed_at).max() == -1
    # And the next request starts from there.
    second = hf.forget_rows(data, [12], num_classes=4)
    after, _ = unlearn(jax.random.key(9), after, second)
    both = init(data.without(jnp.array([*rows, 12])))
    chex.assert_trees_all_equal(after.variables, both.variables)


def test_only_what_held_a_forgotten_row_is_trained_again():
    data, init, unlearn, state = world(2, 3)
    seen = set()
    for row in range(12):
        request = hf.forget_rows(data, [row], num_classes=4)
        after, info = unlearn(KEY, state, request)
        retrained = np.asarray(info.retrained)
        (shard,) = np.flatnonzero(retrained.any(axis=1))
        first = retrained[shard].argmax()
        assert retrained[shard, first:].all()
        seen.add((int(shard), int(first)))
        # Its model is another one, and the other shard's is the same to the bit.
        moved = [
            [bool((a[n] != b[n]).any()) for n in range(2)]
            for a, b in zip(
                jax.tree.leaves(after.variables),
                jax.tree.leaves(state.variables),
                strict=True,
            )
        ]
        changed = np.any(moved, axis=0)
        assert changed[shard] and not changed[1 - shard]
    assert len(seen) > 3


def test_every_row_is_learnt_by_one_shard():
    """A shard's model depends on its own rows alone, and these cover the data."""
    data, init, unlearn, state = world(3, 1)
    of_row = []
    for row in range(40):
        request = hf.forget_rows(data, [row], num_classes=4)
        of_row.append(np.asarray(unlearn(KEY, state, request)[1].retrained)[:, 0])
    assert (np.sum(of_row, axis=1) == 1).all()
    sizes = np.sum(of_row, axis=0)
    # Forty draws of three: a standard deviation of 3 about 13.3.
    assert sizes.min() >= 4 and sizes.sum() == 40
    for shard in range(3):
        mine = np.array(of_row)[:, shard]
        scribbled = toys.scribble(jax.random.key(7), data, np.flatnonzero(~mine))
        other = init(scribbled).variables
        equal = jax.tree.map(
            lambda a, b, at=shard: (a[at] == b[at]).all(), other, state.variables
        )
        assert all(jax.tree.leaves(equal))


def test_one_step_is_the_gradient_by_hand():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.sisa(
        classifier, optax.sgd(0.1), 1, shards=1, batch_size=30 * 40
    )
    state = unlearner.init(KEY, variables, data)
    after = jax.jit(unlearner.unlearn)(KEY, state, request)[0]
    key_init, _ = jax.random.split(jax.random.fold_in(jax.random.split(KEY)[1], 0))
    params = by_hand.double(classifier.init(key_init, data.x))
    gradient = by_hand.cross_entropy(params, x[~gone], y[~gone])
    found = jax.tree.map(lambda leaf: leaf[0], after.variables)
    by_hand.assert_close(found, by_hand.step(params, gradient, 0.1))


def test_a_shard_whose_training_diverges_is_named():
    data, classifier, variables, request, *_ = by_hand.world()
    unlearner = hf.rivals.sisa(classifier, optax.sgd(1e30), 4, shards=2, batch_size=8)
    state = jax.jit(unlearner.init)(KEY, variables, data)
    info = jax.jit(unlearner.unlearn)(KEY, state, request)[1]
    assert (np.asarray(info.failed_at) >= 0).all()
    chex.assert_tree_all_finite(state.variables)
