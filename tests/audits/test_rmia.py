"""RMIA, against its closed form and a loop that follows the definition."""

import numpy as np
import pytest
from scipy.special import expit, logit

from hyperforget_jax.audits import IN, OUT, Pool, rates, rmia


def halves(draw, models, examples):
    return np.where(np.argsort(draw.random((models, examples)), 0) % 2, IN, OUT)


def test_members_dominate_as_two_normals_say():
    # log ratio N(1, 1) for members and N(0, 1) else: Phi(1 / sqrt 2) = 0.7602.
    draw = np.random.default_rng(0)
    world = halves(draw, 64, 100)
    log_p = draw.normal(size=world.shape) + (world == IN) - 8
    z = draw.normal(size=(64, 400)) - 8
    # Probabilities so small that the mean under other models moves all alike.
    pool = Pool(logit(np.exp(log_p)), world)
    scores = rmia(pool, logit(np.exp(z)))
    found = rates(scores[pool.is_(IN)], scores[pool.is_(OUT)])
    assert abs(found.auc - 0.7602) < 0.02
    offline = rmia(pool, logit(np.exp(z)), online=False, offset=1.0)
    assert rates(offline[pool.is_(IN)], offline[pool.is_(OUT)]).auc > 0.7


@pytest.mark.parametrize("online", [True, False])
def test_scores_are_those_of_the_definition(online):
    draw = np.random.default_rng(1)
    world = halves(draw, 9, 5)
    pool = Pool(draw.normal(size=(9, 5)), world)
    z = draw.normal(size=(9, 7))
    scores = rmia(pool, z, online=online, gamma=1.1, offset=0.4)
    p, p_z = expit(pool.phi), expit(z)
    for target in range(9):
        others = [k for k in range(9) if k != target]
        for x in range(5):
            # The mean over the true OUT models, however many: not over the largest.
            out = np.mean([p[k, x] for k in others if world[k, x] == OUT])
            z_out = np.array([np.mean([p_z[k, i] for k in others]) for i in range(7)])
            if online:
                inside = np.mean([p[k, x] for k in others if world[k, x] == IN])
                ratio, z_ratio = (
                    p[target, x] / ((out + inside) / 2),
                    p_z[target] / z_out,
                )
            else:
                ratio = p[target, x] / (0.5 * (1.4 * out + 0.6))
                z_ratio = p_z[target] / (0.5 * (1.4 * z_out + 0.6))
            assert scores[target, x] == np.mean(ratio / z_ratio > 1.1)


def test_what_cannot_be_scored_is_refused():
    draw = np.random.default_rng(2)
    pool = Pool(draw.normal(size=(9, 5)), halves(draw, 9, 5))
    with pytest.raises(ValueError, match=r"population must be \[9, Z\]"):
        rmia(pool, np.zeros((8, 3)))
    with pytest.raises(ValueError, match=r"offset must be in \[0, 1\], got 2"):
        rmia(pool, np.zeros((9, 3)), offset=2)
