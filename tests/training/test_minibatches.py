"""Minibatches: every member of a training set is seen, and nobody else."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.training.minibatches import (
    active_epoch_length,
    epoch_length,
    epoch_order,
)


def drawn(key, weight, batch_size):
    """The rows of one epoch, ``[batches, batch_size]``."""
    batches = epoch_length(weight.shape[0], batch_size)
    return np.asarray(epoch_order(key, weight, batches, batch_size)[0])


@given(
    # Two shapes only: every new one is a compilation.
    weight=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    batch_size=st.sampled_from([7, 50]),
    seed=st.integers(0, 2**31 - 1),
)
def test_rows_are_drawn_as_often_as_they_weigh(weight, batch_size, seed):
    weight = np.array(weight)
    total = weight.sum()
    length = epoch_length(len(weight), batch_size) * batch_size
    rows = drawn(jax.random.key(seed), jnp.asarray(weight), batch_size).ravel()
    counts = np.bincount(rows, minlength=len(weight))
    if total == 0:
        assert (rows == rows[0]).all()
        return
    if total <= length:
        # Whole rounds through the training set, and part of one more.
        rounds = length // total
        assert (counts >= rounds * weight).all()
        assert (counts <= (rounds + 1) * weight).all()
    else:
        assert (counts <= weight).all()


@given(size=st.sampled_from([1, 33, 300]), seed=st.integers(0, 2**31 - 1))
def test_an_epoch_of_full_length_sees_every_active_row(size, seed):
    weight = np.random.default_rng(seed).integers(0, 2, size)
    rows = drawn(jax.random.key(seed), jnp.asarray(weight), 32).ravel()
    if weight.any():
        assert set(rows) == set(np.flatnonzero(weight))


@pytest.mark.parametrize("total", [2**20, 2**30, 2**31 - 1])
def test_weights_up_to_int32_are_drawn_evenly(total):
    """Also where an offset and a place are together beyond int32."""
    rows, batches = 40, 8
    weight = np.full(rows, total // rows)
    for seed in range(5):
        order = epoch_order(jax.random.key(seed), jnp.asarray(weight), batches, 40)[0]
        counts = np.bincount(np.asarray(order).ravel(), minlength=rows)
        # Eight places a row, and what is left over by rounding.
        assert (abs(counts - batches) <= 1).all()


class PassOrder(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_jit_and_eager_draw_the_same(self):
        draw = self.variant(lambda key, w: epoch_order(key, w, 3, 8))
        weight = jnp.array([1, 0, 2, 1, 1, 0, 1, 1])
        expected = epoch_order(jax.random.key(3), weight, 3, 8)
        chex.assert_trees_all_equal(draw(jax.random.key(3), weight), expected)


@pytest.mark.parametrize("size", [7, 2**14, 2**14 + 1, 60_000])
def test_order_is_a_permutation_for_small_and_large_sets(size):
    order = drawn(jax.random.key(0), jnp.ones(size, jnp.int32), size).ravel()
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_every_row_is_as_likely_in_every_place():
    keys = jax.random.split(jax.random.key(0), 20_000)
    weight = jnp.ones(5, jnp.int32)
    orders = np.asarray(jax.vmap(lambda key: epoch_order(key, weight, 1, 5)[0])(keys))
    orders = orders[:, 0]
    counts = np.stack(
        [np.bincount(orders[:, place], minlength=5) for place in range(5)]
    )
    # Binomial(20000, 1/5): five standard deviations are 283 draws.
    assert np.abs(counts - 4000).max() < 283


def test_large_sets_are_shuffled_without_trace_of_file_order():
    size = 60_000
    order = drawn(jax.random.key(1), jnp.ones(size, jnp.int32), size).ravel()
    # Neighbours of a random permutation ascend half of the time; five standard
    # deviations, sqrt(size / 12), are 354.
    ascents = (np.diff(order) > 0).sum()
    assert abs(ascents - (size - 1) / 2) < 354


def test_equal_multiplicities_are_as_good_as_none():
    eight = jnp.full(64, 8, jnp.int32)
    rows = drawn(jax.random.key(2), eight, 16)
    np.testing.assert_array_equal(np.sort(rows.ravel()), np.arange(64))


def test_heavy_rows_are_drawn_in_proportion_over_many_epochs():
    weight = jnp.array([5, 1, 0, 2, 9, 1], jnp.int32)
    keys = jax.random.split(jax.random.key(0), 3_000)
    rows = jax.vmap(lambda key: epoch_order(key, weight, 2, 3)[0])(keys)
    counts = np.bincount(np.asarray(rows).ravel(), minlength=6)
    # 18,000 draws; five standard deviations of a binomial share are below 0.02.
    np.testing.assert_allclose(counts / counts.sum(), weight / 18, atol=0.02)
    assert counts[2] == 0


def test_a_minibatch_as_large_as_the_training_set_holds_each_row_once():
    weight = jnp.array([1, 0, 0, 1] * 10, jnp.int32)
    rows = drawn(jax.random.key(1), weight, 20)
    active = np.flatnonzero(np.asarray(weight))
    for batch in rows:
        np.testing.assert_array_equal(np.sort(batch), active)


def test_rounds_tell_repeated_draws_of_a_row_apart():
    weight = jnp.zeros(40, jnp.int32).at[jnp.array([3, 7, 20])].set(1)
    rows, rounds = epoch_order(jax.random.key(4), weight, 5, 8)
    pairs = list(zip(np.ravel(rows), np.ravel(rounds), strict=True))
    assert len(set(pairs)) == len(pairs) == 40
    assert max(rounds.ravel()) == 13


@pytest.mark.parametrize("sizes", [(9_000, 16_384, 20_000), (20_000, 40_000)])
def test_padding_does_not_change_the_order_of_what_counts(sizes):
    active = min(sizes)
    used = active_epoch_length(jnp.ones(active, jnp.int32), 128)
    orders = []
    for size in sizes:
        weight = (jnp.arange(size) < active).astype(jnp.int32)
        length = epoch_length(size, 128)
        rows, rounds = epoch_order(jax.random.key(3), weight, length, 128, used)
        orders.append((rows[: int(used)], rounds[: int(used)]))
    for other in orders[1:]:
        chex.assert_trees_all_equal(other, orders[0])
    assert np.unique(orders[0][0]).size == active
