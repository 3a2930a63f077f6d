"""KLoM, against its closed forms."""

import numpy as np
import pytest

from hyperforget_jax.audits import klom


def test_two_values_a_side():
    # KL([1/2, 1/2] || [1/4, 3/4]) and the reverse: a swapped implementation fails.
    first, second = np.array([[0.0], [0], [1], [1]]), np.array([[0.0], [1], [1], [1]])
    np.testing.assert_allclose(klom(first, second), 0.143841, atol=1e-6)
    np.testing.assert_allclose(klom(second, first), 0.130812, atol=1e-6)


def test_sides_that_do_not_meet():
    low, high = np.zeros((8, 3)), np.ones((8, 3))
    np.testing.assert_allclose(klom(low, high), np.log(1e5))
    # A masked logit is clipped, and as far as can be.
    np.testing.assert_allclose(klom(low - 1e4, high), np.log(1e5))
    np.testing.assert_array_equal(klom(low, low), 0)


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_many_samples_of_shifted_normals(shift):
    # d^2 / 2; twenty bins lose a little of it.
    draw = np.random.default_rng(0)
    first, second = draw.normal(shift, 1, (100_000, 2)), draw.normal(size=(100_000, 2))
    np.testing.assert_allclose(klom(first, second), shift**2 / 2, rtol=0.05)


def test_the_floor_of_a_hundred_models():
    # 0.354 on average at a hundred a side, though both have the same law.
    draw = np.random.default_rng(1)
    floor = klom(*draw.normal(size=(2, 100, 300)))
    assert abs(floor.mean() - 0.354) < 0.03


def test_other_examples_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(4, 3\) and \(4, 2\)"):
        klom(np.zeros((4, 3)), np.zeros((4, 2)))
