"""Pairs: which are drawn, and what profiles are."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperforget_jax import hypernet
from hyperforget_jax.hypernet import dataset
from hyperforget_jax.hypernet.pair_loss import join_log_probs
from tests.hypernet import worlds

pytestmark = pytest.mark.slow


def test_pairs_lead_from_starts_and_from_models_that_forgot_less():
    zoo = worlds.zoo("edit")
    pairs = dataset.pair_dataset(zoo)
    expected = {(zoo.start[run], run, -1) for run in range(30)}
    for a in range(30):
        for b in range(30):
            below = set(np.flatnonzero(zoo.masks[a])) < set(
                np.flatnonzero(zoo.masks[b])
            )
            if zoo.start[a] == zoo.start[b] and below:
                expected.add((6 + a, b, -1))
    found = [tuple(map(int, pair)) for pair in pairs.pairs]
    assert len(found) == len(set(found)) and expected < set(found)
    assert len(expected) == 30 + 6 * 2  # Only [0, 1] has smaller sets: [0] and [1].
    added = set(found) - expected
    assert len(added) == 2 * 6 * 2  # At once and in turn, for every other class.
    for source, run, other in added:
        assert source in (zoo.start[run], 6 + other)
        assert zoo.start[other] == zoo.start[run]
        assert zoo.masks[other].sum() == zoo.masks[run].sum() == 1
        both = zoo.masks[other] | zoo.masks[run]
        assert both.sum() == 2 and not (zoo.masks == both).all(1).any()
    begin = jax.tree.leaves(pairs.sources)[0]
    np.testing.assert_array_equal(begin[:6], jax.tree.leaves(zoo.starts["params"])[0])
    end = jax.tree.leaves(zoo.variables["params"])[0]
    np.testing.assert_array_equal(begin[6:], end[:, -1])


def test_what_is_drawn_belongs_together():
    zoo = worlds.zoo("edit")
    pairs = jax.tree.map(jnp.asarray, dataset.pair_dataset(zoo))
    keys = jax.random.split(jax.random.key(0), 300)
    drawn = jax.vmap(lambda key: dataset.sample_pair(key, pairs))(keys)
    kernel = zoo.variables["params"]["Dense_0"]["kernel"]
    begin = np.concatenate([zoo.starts["params"]["Dense_0"]["kernel"], kernel[:, -1]])
    loss_of = {kernel[r, k].tobytes(): (r, k) for r in range(30) for k in range(3)}
    known = {own.tobytes() for own in zoo.starts["params"]["Dense_0"]["kernel"]}
    stayed = added = 0
    for own in range(300):
        source, params = (
            np.asarray(tree["Dense_0"]["kernel"][own])
            for tree in (drawn.source, drawn.target)
        )
        assert any((source == other).all() for other in begin)
        if (source == params).all():
            stayed += 1
            continue
        if params.tobytes() not in loss_of:
            added += 1
            assert np.asarray(drawn.classes[own]).sum() == 2
            continue
        run, checkpoint = loss_of[params.tobytes()]
        np.testing.assert_array_equal(drawn.share[own], np.zeros(4))
        np.testing.assert_array_equal(drawn.loss[own], zoo.loss[run, checkpoint])
        np.testing.assert_array_equal(drawn.classes[own], zoo.masks[run])
        # Who has forgotten is not shown models that remember.
        assert source.tobytes() in known or checkpoint == 2
    # One of four choices; five standard deviations.
    assert abs(stayed / 300 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 300)
    share = 0.75 * 24 / 66
    assert abs(added / 300 - share) < 5 * np.sqrt(share * (1 - share) / 300)


@pytest.mark.parametrize("how", ["at once", "in turn"])
def test_changes_are_added_where_no_run_forgets_both_classes(how):
    zoo = worlds.zoo("edit")
    pairs = jax.tree.map(jnp.asarray, dataset.pair_dataset(zoo))
    first, second = (
        next(r for r in range(30) if zoo.start[r] == 4 and zoo.masks[r].tolist() == own)
        for own in ([False, False, True, False], [True, False, False, False])
    )
    source = {"at once": 4, "in turn": 6 + first}[how]
    only = pairs._replace(pairs=jnp.array([[source, second, first]]))
    begin_loss = np.concatenate([zoo.start_loss, zoo.loss[:, -1]])[source]
    for number in range(20):
        pair = dataset.sample_pair(jax.random.key(number), only)
        if not np.array_equal(pair.loss, begin_loss):  # It did not stay.
            break
    np.testing.assert_array_equal(pair.classes, [True, False, True, False])
    for own, begin, ends in zip(
        jax.tree.leaves(pair.target),
        jax.tree.leaves(zoo.starts["params"]),
        jax.tree.leaves(zoo.variables["params"]),
        strict=True,
    ):
        changed = (
            begin[4] + (ends[first, -1] - begin[4]) + (ends[second, -1] - begin[4])
        )
        # Sums in another order.
        np.testing.assert_allclose(own, changed, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(pair.share, [0, 0.5, 1, 0.5])
    kernel = zoo.variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(
        pair.teachers["Dense_0"]["kernel"], kernel[[second, first], -1]
    )
    one, other = zoo.loss[first, -1], zoo.loss[second, -1]
    mean = (one + other) / 2
    np.testing.assert_allclose(
        pair.loss, [other[0], mean[1], one[2], mean[3]], rtol=1e-6
    )


def test_of_two_classes_no_sum_is_shown():
    """Nothing would be left."""
    zoo = hypernet.Zoo(
        {"params": {"w": np.zeros((2, 1, 3), np.float32)}},
        np.eye(2, dtype=bool),
        np.zeros(2, np.int32),
        np.ones((2, 1, 2), np.float32),
        np.ones((2, 1, 2), np.float32),
        {"params": {"w": np.zeros((1, 3), np.float32)}},
        np.ones((1, 2), np.float32),
        np.array([1]),
    )
    assert dataset.pair_dataset(zoo).pairs.tolist() == [[0, 0, -1], [0, 1, -1]]


def test_joined_predictions_know_neither_class():
    share = jnp.array([0.0, 1.0, 0.5, 0.5])
    # On a row of class 0, which the first has forgotten and the second has not.
    first = np.array([[1e-4, 0.3, 0.5, 0.1999]])
    second = np.array([[0.99, 1e-4, 4e-3, 5.9e-3]])
    joined = np.exp(join_log_probs(jnp.log(first), jnp.log(second), share))[0]
    np.testing.assert_allclose(joined.sum(), 1, rtol=1e-6)
    # Both stay as unlikely as they are to the one that forgot them.
    np.testing.assert_allclose(joined[:2], 1e-4, rtol=1e-3)
    ratio = np.sqrt((0.5 / 0.1999) * (4e-3 / 5.9e-3))
    np.testing.assert_allclose(joined[2] / joined[3], ratio, rtol=1e-5)
    for whole, own in ((0.0, first), (1.0, second)):
        alone = join_log_probs(jnp.log(first), jnp.log(second), jnp.full(4, whole))
        np.testing.assert_allclose(np.exp(alone), own, rtol=1e-5)


def test_profiles_are_the_means_of_the_last_checkpoints():
    zoo = worlds.zoo("edit")
    profiles = dataset.zoo_profiles([zoo])
    assert profiles.masks.shape == (5, 4)
    for mask, loss in zip(np.asarray(profiles.masks), profiles.loss, strict=True):
        own = (zoo.masks == mask).all(1)
        np.testing.assert_allclose(loss, zoo.loss[own, -1].mean(0), rtol=1e-6)
        np.testing.assert_array_equal(
            hypernet.profile(profiles, jnp.asarray(mask)), loss
        )


def test_profiles_are_of_all_parts_of_a_zoo():
    zoo = worlds.zoo("edit")
    single = (zoo.masks.sum(1) == 1) & zoo.masks[:, 2]
    # Neither part forgets what the other does, or begins as the other.
    parts = [
        zoo._replace(
            masks=zoo.masks[own],
            loss=zoo.loss[own],
            starts=jax.tree.map(lambda leaf, at=begun: leaf[at], zoo.starts),
        )
        for own, begun in ((single, slice(3)), (~single, slice(3, 6)))
    ]
    whole, joined = dataset.zoo_profiles([zoo]), dataset.zoo_profiles(iter(parts))
    # Means are taken over the same numbers, in the same order.
    chex.assert_trees_all_equal(joined, whole)


def test_profiles_know_the_norms_of_starts():
    zoo = worlds.zoo("edit")
    assert zoo.starts is not None
    norms = jax.vmap(optax.tree.norm)(zoo.starts["params"])
    found = dataset.zoo_profiles([zoo]).norms
    np.testing.assert_allclose(found, [norms.min(), norms.max()], rtol=1e-6)
    np.testing.assert_array_equal(
        dataset.zoo_profiles([worlds.zoo("generate")]).norms, 0
    )


def test_unknown_sets_are_composed_of_single_classes():
    profiles = dataset.zoo_profiles([worlds.zoo("edit")])
    masks, loss = np.asarray(profiles.masks), np.asarray(profiles.loss)
    single = {
        c: loss[np.flatnonzero((masks == (np.arange(4) == c)).all(1))[0]]
        for c in range(4)
    }
    asked = hypernet.profile(profiles, jnp.array([False, True, False, True]))
    expected = [
        (single[1][0] + single[3][0]) / 2,
        single[1][1],
        (single[1][2] + single[3][2]) / 2,
        single[3][3],
    ]
    np.testing.assert_allclose(asked, expected, rtol=1e-6)


def test_a_zoo_must_know_each_class_alone():
    zoo = worlds.zoo("edit")
    some = ~((zoo.masks.sum(1) == 1) & zoo.masks[:, 2])
    lacking = zoo._replace(masks=zoo.masks[some], loss=zoo.loss[some])
    with pytest.raises(ValueError, match=r"none for \[2\]"):
        dataset.zoo_profiles([lacking, lacking])


@pytest.mark.parametrize("kind", ["dihyfo_1", "dihyfo_2"])
def test_prompts_tell_losses_apart_and_are_finite(kind):
    classes = jnp.array([True, False, False])
    asked = [
        hypernet.features(kind, jnp.array([forget, 0.1, 0.2]), classes)
        for forget in (0.0, 1e-3, 0.1, 5.0, 30.0)
    ]
    assert len({tuple(np.asarray(own).tolist()) for own in asked}) == 5
    assert all(np.isfinite(own).all() for own in asked)
    if kind == "dihyfo_1":  # Two losses and the classes: retained classes as a mean.
        other = hypernet.features(kind, jnp.array([5.0, 0.2, 0.1]), classes)
        np.testing.assert_allclose(other, asked[3], rtol=1e-6)
        unlike = hypernet.features(kind, jnp.array([5.0, 0.1, 0.2]), ~classes)
        assert (np.asarray(unlike) != np.asarray(asked[3])).any()
