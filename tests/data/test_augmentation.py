"""A pure function of (seed, id, pass), and one of the windows it may be."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.data import crop_and_flip

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5, 6, 2)), jnp.float32)
ID = jnp.array([3, 1, 4, 15, 9, 2, 6, 5])
SEEDED = jax.jit(crop_and_flip(seed=2))


def windows(image, padding, flip):
    """Every crop that may come out, by slices of a padded NumPy array."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    for top, left in itertools.product(range(2 * padding + 1), repeat=2):
        window = padded[top : top + height, left : left + width]
        yield window
        if flip:
            yield window[:, ::-1]


class AugmentTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_every_output_is_a_window_and_every_window_comes_out(self):
        image = np.asarray(X[0])
        for padding, flip in [(1, True), (1, False), (2, True)]:
            augment = self.variant(crop_and_flip(padding=padding, flip=flip))
            many = jnp.broadcast_to(X[0], (600, *image.shape))
            found = np.asarray(augment(many, jnp.arange(600), 0))
            allowed = np.stack(list(windows(image, padding, flip)))
            same = (found[:, None] == allowed[None]).all((2, 3, 4))
            assert same.any(axis=1).all(), "an output that is no window"
            assert same.any(axis=0).all(), "a window that never comes out"
            # 600 draws: a fair share for each, within five standard deviations.
            share = 1 / len(allowed)
            spread = 5 * np.sqrt(600 * share * (1 - share))
            assert np.abs(same.sum(axis=0) - 600 * share).max() < spread

    @chex.variants(with_jit=True, without_jit=True)
    def test_each_image_has_its_own_window(self):
        found = self.variant(crop_and_flip(padding=2))(X, ID, 1)
        for image, output in zip(X, found, strict=True):
            allowed = windows(np.asarray(image), 2, True)
            assert any(np.array_equal(window, output) for window in allowed)

    @chex.variants(with_jit=True, without_jit=True)
    def test_no_padding_and_no_flip_is_the_identity(self):
        augment = self.variant(crop_and_flip(padding=0, flip=False))
        chex.assert_trees_all_equal(augment(X, ID, 3), X)

    @chex.variants(with_jit=True, without_jit=True)
    def test_what_is_shifted_in_is_zero(self):
        found = self.variant(crop_and_flip(padding=3))(jnp.ones_like(X), ID, 0)
        assert set(np.unique(found)) == {0, 1}


@given(st.permutations(range(8)), st.sampled_from([1, 3, 8]))
def test_independent_of_the_batch(order, size):
    rows = jnp.array(order[:size])
    together = SEEDED(X, ID, 5)
    chex.assert_trees_all_equal(SEEDED(X[rows], ID[rows], 5), together[rows])


def test_pure():
    first = crop_and_flip(seed=1)(X, ID, 0)
    chex.assert_trees_all_equal(first, crop_and_flip(seed=1)(X, ID, jnp.int32(0)))


@pytest.mark.parametrize(
    "other",
    [
        lambda: crop_and_flip(seed=1)(X, ID, 1),
        lambda: crop_and_flip(seed=2)(X, ID, 0),
        lambda: crop_and_flip(seed=1)(X, ID + 1, 0),
    ],
    ids=["pass", "seed", "id"],
)
def test_depends_on(other):
    assert not np.array_equal(other(), crop_and_flip(seed=1)(X, ID, 0))


def test_one_trace_serves_every_epoch():
    augment = crop_and_flip()
    traced = jax.jit(chex.assert_max_traces(augment, n=1))
    for epoch in range(4):
        chex.assert_trees_all_equal(traced(X, ID, epoch), augment(X, ID, epoch))


def test_vmap_over_epochs():
    augment = crop_and_flip()
    stacked = jax.vmap(augment, (None, None, 0))(X, ID, jnp.arange(3))
    for epoch in range(3):
        chex.assert_trees_all_equal(stacked[epoch], augment(X, ID, epoch))


def test_padding_rows_do_no_harm():
    augment = crop_and_flip()
    id = ID.at[0].set(-1)
    chex.assert_trees_all_equal(augment(X, id, 0)[1:], augment(X, ID, 0)[1:])


def test_messages():
    with pytest.raises(ValueError, match="padding must be non-negative, got -1"):
        crop_and_flip(padding=-1)
    for name in ("seed", "padding"):
        with pytest.raises(TypeError, match=f"{name} must be a whole number"):
            crop_and_flip(**{name: 1.5})
    with pytest.raises(TypeError, match="flip must be True or False"):
        crop_and_flip(flip="left")
    with pytest.raises(ValueError, match=r"images \[N, H, W, C\], got shape \(8, 5\)"):
        crop_and_flip()(X[:, :, 0, 0], ID, 0)
