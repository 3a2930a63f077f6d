"""Memorisation from a pool, against a loop and closed forms."""

import numpy as np
import pytest
from scipy.special import expit, logit

from hyperforget_jax.audits import IN, OUT, UNLEARNED, Pool, memorisation
from hyperforget_jax.audits import most_memorised as most


def halves(draw, models, examples):
    return np.where(np.argsort(draw.random((models, examples)), 0) % 2, IN, OUT)


def test_scores_equal_a_loop():
    draw = np.random.default_rng(0)
    world = draw.choice([IN, OUT, UNLEARNED], size=(40, 6))
    phi = draw.normal(size=world.shape)
    found = memorisation(Pool(phi, world))
    for example in range(6):
        inside, outside = (
            expit(phi[world[:, example] == which, example]) for which in (IN, OUT)
        )
        expected = inside.mean() - outside.mean()
        spread = np.sqrt(
            inside.var(ddof=1) / inside.size + outside.var(ddof=1) / outside.size
        )
        np.testing.assert_allclose(found.score[example], expected, rtol=1e-12)
        np.testing.assert_allclose(found.standard_error[example], spread, rtol=1e-12)


def test_models_that_agree_have_no_error():
    world = np.tile([[IN], [OUT]], (8, 3))
    found = memorisation(Pool(logit(np.where(world == IN, 0.9, 0.2)), world))
    np.testing.assert_allclose(found.score, 0.7)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)


def test_the_standard_error_is_that_of_the_score():
    # IN: Beta(2, 1), of mean 2/3; OUT: uniform, of mean 1/2.
    draw = np.random.default_rng(1)
    world = halves(draw, 64, 2000)
    p = np.where(world == IN, draw.beta(2, 1, world.shape), draw.random(world.shape))
    found = memorisation(Pool(logit(p), world))
    expected = np.sqrt((1 / 18 + 1 / 12) / 32)
    # Of 2000 examples: four standard errors of a mean and of a deviation.
    assert abs(found.score.mean() - 1 / 6) < 4 * expected / np.sqrt(2000)
    np.testing.assert_allclose(found.score.std(), expected, rtol=4 / np.sqrt(4000))
    np.testing.assert_allclose(found.standard_error.mean(), expected, rtol=0.02)


def test_the_most_memorised_come_first():
    draw = np.random.default_rng(2)
    world = halves(draw, 16, 5)
    gap = np.array([0.1, 0.6, 0.3, 0.6, 0.0])
    pool = Pool(logit(np.where(world == IN, 0.2 + gap, 0.2)), world)
    assert most(pool, 3).tolist() == [1, 3, 2]
    assert most(pool, 5).tolist() == [1, 3, 2, 0, 4]


def test_what_has_no_score_is_refused():
    pool = Pool(np.zeros((4, 2)), np.tile([[IN], [OUT], [OUT], [OUT]], (1, 2)))
    with pytest.raises(ValueError, match="at least 2 IN models .* has 1"):
        memorisation(pool)
    with pytest.raises(ValueError, match=r"count must be in \[1, 2\], got 3"):
        most(pool, 3)
