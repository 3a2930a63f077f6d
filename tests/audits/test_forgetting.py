"""The challenge's forgetting score, against a loop that follows its rules."""

import numpy as np
import pytest

from hyperforget_jax.audits import example_epsilons, forgetting_score


def by_the_rules(unlearned, retrained):
    """One example, rule by rule, as the challenge states them."""
    pair = (retrained, unlearned)
    above, below = pair if np.median(pair[0]) > np.median(pair[1]) else pair[::-1]
    ranges = sorted([np.ptp(above), np.ptp(below)])
    if ranges[0] / ranges[1] < 0.01:
        return 50.0
    # The side of the smaller range is looked for, the second where they are equal.
    narrow, wide = (below, above) if np.ptp(above) >= np.ptp(below) else (above, below)
    low, high = min(above.min(), below.min()), max(above.max(), below.max())
    found = []
    for at in np.linspace(low, high, int(np.ceil((high - low) * 100))):
        found.append((np.mean(above < at), np.mean(below >= at)))
    for right in np.linspace(narrow.max() - 2, narrow.max() + 2, 400):
        start = right - np.ptp(narrow)
        for left in np.linspace(start - 2, start + 2, 400):
            held = [
                np.mean((left <= side) & (side <= right)) for side in (narrow, wide)
            ]
            found.append((1 - held[0], held[1]))
    best = 0.0
    for fnr, fpr in set(found):
        if fnr == fpr == 0:
            return 50.0
        if fnr > 0 and fpr > 0:
            with np.errstate(invalid="ignore", divide="ignore"):
                shown = [
                    np.log(1 - 1e-5 - fpr) - np.log(fnr),
                    np.log(1 - 1e-5 - fnr) - np.log(fpr),
                ]
            best = max(best, *(each for each in shown if not np.isnan(each)))
    return min(best, 50.0)


@pytest.mark.parametrize(
    "shift, scale", [(0.0, 1.0), (1.0, 1.0), (0.0, 3.0), (-2.0, 0.5), (9.0, 1.0)]
)
def test_epsilons_are_those_of_the_rules(shift, scale):
    draw = np.random.default_rng(0)
    unlearned = shift + scale * draw.normal(size=(12, 1))
    retrained = draw.normal(size=(12, 1))
    expected = by_the_rules(unlearned[:, 0], retrained[:, 0])
    np.testing.assert_allclose(example_epsilons(unlearned, retrained), expected)


def test_populations_that_are_alike_and_apart():
    draw = np.random.default_rng(1)
    first, second = draw.normal(size=(2, 128, 32))
    # The ceiling of 128 models is far below one.
    alike = forgetting_score(first, second).score
    assert 0.03 < alike < 0.3
    assert forgetting_score(first + 2, second).score < alike / 4
    assert forgetting_score(first + 20, second).score == 0
    assert (forgetting_score(first + 20, second).epsilons == 50).all()


def test_peaked_and_constant_populations():
    draw = np.random.default_rng(2)
    wide = draw.normal(size=(16, 3))
    np.testing.assert_array_equal(example_epsilons(np.zeros((16, 3)), wide), 50)
    zeros = np.zeros((16, 3))
    np.testing.assert_array_equal(example_epsilons(zeros, zeros), 0)
    np.testing.assert_array_equal(example_epsilons(zeros, zeros + 1), 50)


def test_what_has_no_score_is_refused():
    with pytest.raises(ValueError, match=r"shapes \(4, 2\) and \(5, 2\)"):
        forgetting_score(np.zeros((4, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="at least 3 models a side, got 2"):
        forgetting_score(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="must be finite"):
        forgetting_score(np.full((4, 2), np.nan), np.zeros((4, 2)))
