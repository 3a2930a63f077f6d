"""Canaries: labels all wrong, coins all fair, other rows as they were."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hyperforget_jax as hf
from hyperforget_jax.data import canaries, examples

KEY = jax.random.key(5)
RANDOM = np.random.default_rng(0)
Y = RANDOM.integers(3, size=600)
WEIGHT = RANDOM.integers(3, size=600)
DATA = examples(RANDOM.normal(size=(600, 2)).astype(np.float32), Y, weight=WEIGHT)


def test_a_canary_has_a_wrong_label_and_the_weight_of_its_coin():
    made = canaries(KEY, DATA, 300)
    rows, included = np.asarray(made.rows), np.asarray(made.included)
    assert len(set(rows.tolist())) == 300 and (WEIGHT[rows] > 0).all()
    y = np.asarray(made.data.y)
    assert (y[rows] != Y[rows]).all() and set(y.tolist()) == {0, 1, 2}
    assert np.asarray(made.data.weight)[rows].tolist() == included.tolist()
    others = np.setdiff1d(np.arange(600), rows)
    for after, before in ((y, Y), (np.asarray(made.data.weight), WEIGHT)):
        assert (after[others] == before[others]).all()
    chex.assert_trees_all_equal((made.data.x, made.data.id), (DATA.x, DATA.id))
    assert included.dtype == bool and made.data.weight.dtype == jnp.int32


def test_labels_and_coins_are_fair():
    made = canaries(KEY, DATA, 400, num_classes=5)
    further = (np.asarray(made.data.y)[made.rows] - Y[made.rows]) % 5
    # Fixed seeds: a fair draw fails either in a thousandth of all keys.
    assert stats.chisquare(np.bincount(further, minlength=5)[1:]).pvalue > 1e-3
    assert stats.binomtest(int(made.included.sum()), 400).pvalue > 1e-3
    # The coins know nothing of the label.
    table = [np.bincount(further[made.included == c], minlength=5)[1:] for c in (0, 1)]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_included_ones_can_be_asked_for():
    made = canaries(KEY, DATA, 20)
    included = np.asarray(made.rows)[made.included]
    asked = np.asarray(hf.forget_rows(made.data, included).rows)
    assert asked[asked < 600].tolist() == included.tolist()


def test_the_same_key_gives_the_same_canaries():
    chex.assert_trees_all_equal(canaries(KEY, DATA, 9), canaries(KEY, DATA, 9))
    other = canaries(jax.random.key(6), DATA, 9)
    assert other.rows.tolist() != canaries(KEY, DATA, 9).rows.tolist()


def test_what_makes_no_canaries_is_refused():
    there = int((WEIGHT > 0).sum())
    with pytest.raises(ValueError, match=f"count=600 is more than the {there} rows"):
        canaries(KEY, DATA, 600)
    with pytest.raises(ValueError, match="count must be positive"):
        canaries(KEY, DATA, 0)
    with pytest.raises(ValueError, match="needs two classes: give num_classes="):
        canaries(KEY, examples(np.zeros((3, 1), np.float32), [0, 0, 0]), 1)
    with pytest.raises(ValueError, match="num_classes=2 is too small"):
        canaries(KEY, DATA, 1, num_classes=2)
    with pytest.raises(TypeError, match="key must be a typed key"):
        canaries(jnp.zeros(2, jnp.uint32), DATA, 1)
