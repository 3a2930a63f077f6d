"""Intervals and bounds, against tabled values and repeated trials."""

import numpy as np
import pytest
from scipy.special import expit

from hyperforget_jax.audits import (
    bootstrap,
    epsilon_bound,
    epsilon_ceiling,
    held_out_bound,
    one_run_bound,
    rates,
    tpr_at,
)


def test_what_so_many_models_can_show_at_the_most():
    for models, most in ((64, 2.825), (128, 3.532), (512, 4.929), (1000, 5.601)):
        assert abs(epsilon_ceiling(models, models) - most) < 1e-3
    assert epsilon_bound(50, 100, 50, 100) == 0
    assert epsilon_bound(100, 100, 0, 100) == 0
    assert epsilon_bound(1, 100, 1, 100) < epsilon_ceiling(100, 100)


def test_the_bound_exceeds_the_truth_as_rarely_as_it_says():
    # Randomised response of epsilon one: errors of 0.268941.
    draw = np.random.default_rng(0)
    errors = draw.binomial(200, 1 - expit(1.0), size=(1000, 2))
    bounds = [epsilon_bound(int(fp), 200, int(fn), 200) for fp, fn in errors]
    # Two standard errors of a share of 0.05 of a thousand are 0.014.
    assert np.mean(np.array(bounds) > 1) < 0.05 + 0.014
    assert np.mean(bounds) > 0.5


def test_a_threshold_chosen_on_the_other_half_proves_no_more():
    draw = np.random.default_rng(1)
    found = [held_out_bound(*draw.normal(size=(2, 40)), seed=s) for s in range(200)]
    assert np.mean(np.array(found) > 0) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    apart = held_out_bound(draw.normal(9, 1, 128), draw.normal(size=128))
    np.testing.assert_allclose(apart, epsilon_ceiling(64, 64))


@pytest.mark.parametrize(
    "right, guesses, delta, expected",
    [
        (100, 100, 0, 3.4930),
        (90, 100, 0, 1.6308),
        (60, 100, 0, 0.0519),
        (50, 100, 0, 0),
        (731, 1000, 0, 0.8806),
        (100, 100, 1e-5, 3.4654),
        (90, 100, 1e-5, 1.6261),
        (60, 100, 1e-5, 0.0495),
        (50, 100, 1e-5, 0),
        (731, 1000, 1e-5, 0.8803),
    ],
)
def test_bounds_of_one_run(right, guesses, delta, expected):
    found = one_run_bound(right, guesses, 1000, delta=delta)
    assert abs(found - expected) < 1e-4


def test_rates_count_ties_half_and_resolve_no_more_than_they_can():
    ones = np.ones(200)
    assert rates(ones, ones).auc == 0.5
    draw = np.random.default_rng(2)
    found = rates(draw.normal(1, 1, 40_000), draw.normal(size=40_000))
    assert abs(found.tpr[0.01] - 0.0924) < 0.01
    assert abs(found.tpr[0.001] - 0.0183) < 0.005
    assert tpr_at(0.01, ones, np.zeros(99)) is None
    assert tpr_at(0.01, ones, np.zeros(100)) == 1.0
    with pytest.raises(ValueError, match="got 0 positive and 200 negative"):
        rates(np.full(3, np.nan), ones)


@pytest.mark.parametrize(
    "errors, trials, highest",
    [(0, 100, 0.036217), (5, 100, 0.112835), (50, 100, 0.601679)],
)
def test_the_bound_is_that_of_clopper_and_pearson(errors, trials, highest):
    """Ends of published exact intervals of 95 %, as both rates' highest values."""
    expected = max(0, np.log((1 - highest) / highest))
    found = epsilon_bound(errors, trials, errors, trials)
    assert abs(found - expected) < 1e-4


def test_an_interval_over_models_holds_the_mean():
    # The mean of forty normals: two standard errors are 0.31.
    draw = np.random.default_rng(3)
    values = draw.normal(size=40)
    low, high = bootstrap(lambda rows: values[rows].mean(), 40, repeats=2000)
    expected = 1.96 * values.std() / np.sqrt(40)
    np.testing.assert_allclose((high - low) / 2, expected, rtol=0.1)
    assert low < values.mean() < high


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="right <= guesses <= canaries"):
        one_run_bound(5, 4, 10)
    with pytest.raises(ValueError, match=r"negative must be \[P\], at least 4"):
        held_out_bound(np.zeros(8), np.zeros(3))
