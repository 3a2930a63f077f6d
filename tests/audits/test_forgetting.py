"""The challenge's forgetting score, against a loop that follows its rules."""

import numpy as np
import pytest

from hyperforget_jax.audits import example_epsilons, forgetting_score
from tests import scripts


@pytest.mark.slow
@pytest.mark.parametrize(
    "shift, scale", [(0.0, 1.0), (1.0, 1.0), (0.0, 3.0), (-2.0, 0.5), (9.0, 1.0)]
)
def test_epsilons_are_those_of_the_rules(shift, scale):
    draw = np.random.default_rng(0)
    unlearned = shift + scale * draw.normal(size=(12, 1))
    retrained = draw.normal(size=(12, 1))
    (rules,) = scripts.load("benchmarks.baselines.forgetting_rules")
    expected = rules.epsilon(unlearned[:, 0], retrained[:, 0])
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
