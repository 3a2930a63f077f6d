"""The audit of one run: on randomised response, on equal worlds, on nothing at all."""

import numpy as np
import pytest
from scipy.special import expit

from hyperforget_jax.audits import one_run, one_run_bound

CANARIES = 1000


def test_the_bound_exceeds_the_truth_as_rarely_as_it_says():
    # Randomised response of epsilon one shows each coin rightly in 0.731 of all cases.
    draw = np.random.default_rng(0)
    right = draw.binomial(CANARIES, expit(1.0), size=4000)
    values, counts = np.unique(right, return_counts=True)
    bounds = [one_run_bound(int(v), CANARIES, CANARIES) for v in values]
    # Two standard errors of a share of 0.05 of 4000 are 0.007.
    assert np.average(np.array(bounds) > 1, weights=counts) < 0.05 + 0.007
    assert abs(np.average(bounds, weights=counts) - 0.881) < 0.005


def test_guesses_on_randomised_response():
    # Ties decide which of the likely ones are guessed, and know nothing of the coins.
    draw = np.random.default_rng(1)
    found = []
    for _ in range(200):
        coins = draw.random(CANARIES) < 0.5
        shown = coins == (draw.random(CANARIES) < expit(1.0))
        found.append(
            one_run(shown * 1.0, coins, guesses_in=300, guesses_out=300).epsilon
        )
    # Two standard errors of a share of 0.05 of 200 are 0.03.
    assert np.mean(np.array(found) > 1) < 0.05 + 0.03
    assert np.mean(found) > 0.8


def test_equal_worlds_prove_nothing():
    draw = np.random.default_rng(2)
    found = [
        one_run(
            draw.normal(size=CANARIES),
            draw.random(CANARIES) < 0.5,
            guesses_in=50,
            guesses_out=50,
        ).epsilon
        for _ in range(200)
    ]
    assert np.mean(np.array(found) == 0) >= 0.95 - 0.03


def test_canaries_that_are_all_seen():
    coins = np.arange(200) % 2 == 0
    found = one_run(coins * 5.0, coins, guesses_in=50, guesses_out=50)
    assert found.right == found.guesses == 100 and found.canaries == 200
    assert abs(found.epsilon - 3.4930) < 1e-4 and found.most == found.epsilon
    # Forgetting that overshoots is seen in the other direction.
    wrong = one_run(coins * -5.0, coins, guesses_in=50, guesses_out=50)
    assert wrong.right == 0 and wrong.epsilon == 0
    # One side alone, and an infinite score.
    scores = np.where(coins, np.inf, 0.0)
    assert one_run(scores, coins, guesses_in=100, guesses_out=0).right == 100
    assert one_run(scores, coins, guesses_in=0, guesses_out=1).right == 1


def test_what_cannot_be_guessed_is_refused():
    scores, coins = np.zeros(4), np.ones(4, bool)
    with pytest.raises(ValueError, match=r"both be \[K\].*\(4,\) and \(3,\)"):
        one_run(scores, coins[:3], guesses_in=1, guesses_out=1)
    with pytest.raises(TypeError, match="included must hold booleans, got dtype int"):
        one_run(scores, coins * 1, guesses_in=1, guesses_out=1)
    with pytest.raises(ValueError, match="must not be NaN"):
        one_run(scores * np.nan, coins, guesses_in=1, guesses_out=1)
    for guesses in ((3, 2), (0, 0), (-1, 2)):
        with pytest.raises(ValueError, match="add up to between 1 and 4"):
            one_run(scores, coins, guesses_in=guesses[0], guesses_out=guesses[1])
