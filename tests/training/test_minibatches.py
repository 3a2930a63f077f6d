"""Minibatches: every member of a training set is seen, and nobody else."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.training.minibatches import pass_length, pass_order


@given(
    # Two shapes only: every new one is a compilation.
    weight=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    batch_size=st.sampled_from([7, 50]),
    seed=st.integers(0, 2**31 - 1),
)
def test_rows_are_drawn_as_often_as_they_weigh(weight, batch_size, seed):
    weight = np.array(weight)
    total = weight.sum()
    length = pass_length(len(weight), batch_size) * batch_size
    order = np.asarray(pass_order(jax.random.key(seed), jnp.asarray(weight), length))
    counts = np.bincount(order, minlength=len(weight))
    if total == 0:
        assert (order == order[0]).all()
        return
    # Whole rounds through the training set, and part of one more.
    rounds = length // total
    assert (counts >= rounds * weight).all()
    assert (counts <= (rounds + 1) * weight).all()


@given(size=st.sampled_from([1, 33, 300]), seed=st.integers(0, 2**31 - 1))
def test_a_pass_of_full_length_sees_every_active_row(size, seed):
    weight = np.random.default_rng(seed).integers(0, 2, size)
    length = pass_length(size, 32) * 32
    order = np.asarray(pass_order(jax.random.key(seed), jnp.asarray(weight), length))
    if weight.any():
        assert set(order) == set(np.flatnonzero(weight))


class PassOrder(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_jit_and_eager_draw_the_same(self):
        draw = self.variant(lambda key, w: pass_order(key, w, 24))
        weight = jnp.array([1, 0, 2, 1, 1, 0, 1, 1])
        expected = pass_order(jax.random.key(3), weight, 24)
        np.testing.assert_array_equal(draw(jax.random.key(3), weight), expected)


@pytest.mark.parametrize("size", [7, 2**14, 2**14 + 1, 60_000])
def test_order_is_a_permutation_for_small_and_large_sets(size):
    order = np.asarray(pass_order(jax.random.key(0), jnp.ones(size, jnp.int32), size))
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_every_row_is_as_likely_in_every_place():
    keys = jax.random.split(jax.random.key(0), 20_000)
    weight = jnp.ones(5, jnp.int32)
    orders = np.asarray(jax.vmap(lambda key: pass_order(key, weight, 5))(keys))
    counts = np.stack(
        [np.bincount(orders[:, place], minlength=5) for place in range(5)]
    )
    # Binomial(20000, 1/5): five standard deviations are 283 draws.
    assert np.abs(counts - 4000).max() < 283


def test_large_sets_are_shuffled_without_trace_of_file_order():
    size = 60_000
    order = np.asarray(pass_order(jax.random.key(1), jnp.ones(size, jnp.int32), size))
    # Neighbours of a random permutation ascend half of the time; five standard
    # deviations, sqrt(size / 12), are 354.
    ascents = (np.diff(order) > 0).sum()
    assert abs(ascents - (size - 1) / 2) < 354
