"""The displacement form against a float64 sum over patches, one place at a time."""

import itertools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hyperforget_jax.subspace.displacement import displacement_gram, with_constant

ROWS = 3
WEIGHT = jnp.array([1, 0, 2])


def drawn(height, width, channels):
    # Not centred, as what follows a ReLU is not: the constant's row is not small.
    shape = (ROWS, height, width, channels)
    return 0.5 + jax.random.normal(jax.random.key(height + 10 * width), shape)


def by_place(x, weight, window, padding):
    """The definition, with the constant: one place after the other."""
    x = np.pad(np.float64(x), ((0, 0), *padding, (0, 0)))
    counts = [n - k + 1 for n, k in zip(x.shape[1:3], window, strict=True)]
    gram = 0
    for top, left in itertools.product(*map(range, counts)):
        seen = x[:, top : top + window[0], left : left + window[1]]
        rows = np.concatenate([seen.reshape(ROWS, -1), np.ones((ROWS, 1))], axis=1)
        gram += rows.T @ (np.float64(weight)[:, None] * rows)
    return gram


def check(measure, x, window, padding):
    gram, whole = measure(x, WEIGHT, window, padding)
    expected = by_place(x, WEIGHT, window, padding)
    assert gram.dtype == whole.dtype == jnp.float32
    assert gram.shape == (window[0] * window[1] * x.shape[-1],) * 2
    # Float32 sums over places and rows.
    near = dict(rtol=0, atol=1e-6 * expected.max())
    np.testing.assert_allclose(gram, expected[:-1, :-1], **near)
    np.testing.assert_allclose(whole, expected, **near)


def both(x, weight, window, padding):
    gram = displacement_gram(x, weight, window, padding)
    return gram, with_constant(gram, x, weight, window, padding)


jitted = jax.jit(both, static_argnums=(2, 3))


class DisplacementTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_the_sum_over_patches(self):
        measure = self.variant(both, static_argnums=(2, 3))
        check(measure, drawn(5, 7, 2), (3, 3), ((1, 1), (1, 1)))


@pytest.mark.parametrize(
    ("window", "padding"),
    [
        ((5, 5), "SAME"),
        ((5, 5), "VALID"),
        ((2, 4), "SAME"),
        ((1, 3), "VALID"),
        ((3, 1), "SAME"),
        ((1, 1), "VALID"),
    ],
)
def test_windows_of_all_kinds(window, padding):
    pads = lax.padtype_to_pads((6, 8), window, (1, 1), padding)
    check(jitted, drawn(6, 8, 2), window, tuple(pads))


@hypothesis.settings(max_examples=10)
@hypothesis.given(
    st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
)
def test_any_size(size, window, padding):
    sizes = zip(size[:2], padding, window, strict=True)
    hypothesis.assume(all(n + sum(pair) >= k for n, pair, k in sizes))
    check(jitted, drawn(*size), window, padding)


def test_nothing_cancels():
    """The window's last column never sees the image's first, however large that is."""
    x = drawn(4, 8, 1).at[:, :, 0].multiply(1e5)
    window, padding = (1, 3), ((0, 0), (0, 0))
    gram, _ = jitted(x, WEIGHT, window, padding)
    expected = by_place(x, WEIGHT, window, padding)
    assert gram[0, 0] > 1e8 * gram[2, 2]
    np.testing.assert_allclose(gram[2, 2], expected[2, 2], rtol=1e-6)
