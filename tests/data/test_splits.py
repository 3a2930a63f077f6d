"""A cut in proportion: disjoint, complete, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.data.splits import stratified_split

LABELS = st.lists(st.integers(2, 60), min_size=1, max_size=6).flatmap(
    lambda counts: st.permutations(
        [label for label, count in enumerate(counts) for _ in range(count)]
    )
)


@given(LABELS, st.floats(0.01, 0.99), st.integers(0, 3))
def test_disjoint_complete_and_in_proportion(y, fraction, seed):
    y = np.array(y)
    rest, part = stratified_split(y, fraction, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([rest, part])), np.arange(y.size))
    assert np.all(np.diff(rest) > 0) and np.all(np.diff(part) > 0)
    counts = np.bincount(y)
    cut = np.bincount(y[part], minlength=counts.size)
    assert np.all(np.abs(cut - fraction * counts) <= 1)
    assert np.all((cut >= 1) & (cut < counts))


def test_equal_classes_give_the_exact_size():
    rest, part = stratified_split(np.repeat([4, 7, 9], 50), 0.1)
    assert (rest.size, part.size) == (135, 15)


def test_uneven_classes_add_up_to_the_exact_size():
    # Rounding class by class would give 5 x 1 = 5 or 5 x 2 = 10 of these 75 rows.
    assert stratified_split(np.repeat(np.arange(5), 15), 0.1)[1].size == 8


def test_the_same_seed_gives_the_same_cut_and_another_another():
    y = np.arange(200) % 4
    first, again = stratified_split(y, 0.3), stratified_split(y, 0.3)
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], stratified_split(y, 0.3, seed=1)[1])


def test_the_cut_is_this_one_for_ever():
    # Ids in saved results mean nothing once a release of NumPy moves the cut.
    assert stratified_split(np.arange(40) % 2, 0.2)[1].tolist() == [
        *(2, 3, 11, 13, 18, 20, 21, 32)
    ]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fraction_message(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1, got"):
        stratified_split(np.array([0, 0, 1, 1]), fraction)


def test_single_row_message():
    with pytest.raises(ValueError, match="class 5 has a single row"):
        stratified_split(np.array([0, 0, 5, 1, 1]), 0.5)
