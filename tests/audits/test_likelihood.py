"""LiRA and its kin, against closed forms: normals whose parameters are known."""

import numpy as np
import pytest
from scipy import stats

from hyperforget_jax import audits
from hyperforget_jax.audits import IN, OUT, UNLEARNED, Pool, rates

MODELS, EXAMPLES = 128, 64


def pool(draw, *, shift=0.0, scale=1.0, positive=IN, models=MODELS, examples=EXAMPLES):
    """Half of the models of each example ``N(0, 1)``, half ``N(shift, scale^2)``."""
    world = np.where(np.argsort(draw.random((models, examples)), 0) % 2, positive, OUT)
    phi = draw.normal(size=(models, examples))
    return Pool(np.where(world == positive, shift + scale * phi, phi), world)


def judged(scores, pool, positive=IN):
    return rates(scores[pool.is_(positive)], scores[pool.is_(OUT)])


@pytest.mark.parametrize("attack", [audits.lira, audits.offline_lira])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_a_shift_gives_the_area_of_two_normals(attack, shift):
    made = pool(np.random.default_rng(0), shift=shift)
    found = judged(attack(made, variance="global"), made)
    # 4096 scores a side that share 64 fits: two standard errors are 0.02, and the
    # fitted means cost about 1 / K of the shift.
    assert abs(found.auc - stats.norm.cdf(shift / np.sqrt(2))) < 0.03
    if attack is audits.lira:
        assert abs(found.accuracy - stats.norm.cdf(shift / 2)) < 0.03


def test_equal_populations_are_not_told_apart_held_out():
    # Fitted and judged on the same eight models a side, accuracy would be 0.622.
    made = pool(np.random.default_rng(1), models=16, examples=2000)
    found = judged(audits.lira(made), made)
    assert abs(found.accuracy - 0.5) < 0.02
    by_folds = judged(audits.lira(made, folds=4), made)
    assert abs(by_folds.accuracy - 0.5) < 0.02


def test_a_wider_population_is_seen_by_the_ratio_alone():
    # (2 / pi) arctan 2 = 0.7048, where any threshold on phi has 0.5.
    made = pool(np.random.default_rng(2), scale=2.0, models=512)
    assert abs(judged(audits.lira(made), made).auc - 0.7048) < 0.02
    assert abs(judged(audits.offline_lira(made), made).auc - 0.5) < 0.02


def test_a_shifted_and_wider_population():
    # The folded normals |x + 1/3|: 0.7441; a threshold has Phi(1 / sqrt 5) = 0.6726.
    made = pool(np.random.default_rng(3), shift=1.0, scale=2.0, models=512)
    assert abs(judged(audits.lira(made), made).auc - 0.7441) < 0.02
    assert abs(judged(made.phi, made).auc - 0.6726) < 0.02


def test_examples_of_their_own_scale_need_their_own_fit():
    # Pooled, the raw confidence has 0.595, the fitted one Phi(1 / sqrt 2) = 0.7602.
    draw = np.random.default_rng(4)
    made = pool(draw, shift=1.0, examples=400)
    centre, scale = draw.normal(0, 3, 400), np.exp(draw.normal(0, 0.5, 400))
    made = Pool(centre + scale * made.phi, made.world)
    assert abs(judged(made.phi, made).auc - 0.595) < 0.02
    assert abs(judged(audits.offline_lira(made), made).auc - 0.7602) < 0.02


def test_unlearned_models_that_differ_are_found():
    # N(1.5, 1) against N(0, 1): Phi(0.75) = 0.7734.
    made = pool(np.random.default_rng(5), shift=1.5, positive=UNLEARNED)
    scores = audits.ulira(made, variance="global")
    found = judged(scores, made, UNLEARNED)
    assert abs(found.accuracy - 0.7734) < 0.02


def test_the_two_games_of_ruli():
    # Unlearning marks the whole model, and no example more than another.
    draw = np.random.default_rng(6)
    made = pool(draw, positive=UNLEARNED)
    marked = made.phi - 1.5
    privacy = Pool(marked, made.world)
    found = judged(audits.ruli(privacy), privacy, UNLEARNED)
    # 4096 scores a side that share 64 fits: two standard errors are 0.02.
    assert abs(found.auc - 0.5) < 0.03
    efficacy = Pool(np.where(made.is_(UNLEARNED), marked, made.phi), made.world)
    found = judged(audits.ruli(efficacy), efficacy, UNLEARNED)
    # Kernel densities of 56 a world cost about 0.02 of two normals' area.
    assert abs(found.auc - stats.norm.cdf(1.5 / np.sqrt(2))) < 0.04


def test_far_from_both_worlds_the_wider_one_is_likelier():
    draw = np.random.default_rng(13)
    world = np.repeat([OUT, UNLEARNED], 20)[:, None]
    phi = draw.normal(size=world.shape) * np.where(world == OUT, 3, 1)
    phi[0] = 200.0
    assert audits.ruli(Pool(phi, world))[0, 0] < -100


def test_a_masked_logit_is_seen():
    draw = np.random.default_rng(7)
    made = pool(draw, positive=UNLEARNED, models=32)
    masked = Pool(np.where(made.is_(UNLEARNED), -1e4, made.phi), made.world)
    assert judged(audits.ulira(masked), masked, UNLEARNED).accuracy > 0.99


def test_order_does_not_matter_and_nothing_is_nan():
    draw = np.random.default_rng(8)
    made = pool(draw, shift=1.0, models=24, examples=10)
    scores = audits.lira(made)
    models, examples = draw.permutation(24), draw.permutation(10)
    other = Pool(made.phi[models][:, examples], made.world[models][:, examples])
    np.testing.assert_allclose(
        audits.lira(other), scores[models][:, examples], rtol=1e-9
    )
    constant = Pool(np.ones_like(made.phi), made.world)
    assert judged(audits.lira(constant), constant).auc == 0.5
    infinite = Pool(np.where(made.is_(IN), np.inf, made.phi), made.world)
    assert np.isfinite(audits.lira(infinite)).all()


def test_malformed_pools_are_refused():
    phi, world = np.zeros((4, 2)), np.zeros((4, 2), int)
    for given, message in (
        ((phi[0], world[0]), r"must be \[models, examples\]"),
        ((phi, world[:3]), r"shapes \(4, 2\) and \(3, 2\)"),
        ((phi, world + 5), r"world must be 0 \(never seen\)"),
        ((np.where(phi == 0, np.nan, 0), world), "must not be NaN, got 8"),
    ):
        with pytest.raises(ValueError, match=message):
            Pool(*given)
    with pytest.raises(TypeError, match="phi must hold real numbers"):
        Pool(np.array([["a"]]), np.array([[1]]))
    with pytest.raises(ValueError, match="needs at least 3 IN models .* has 0"):
        audits.lira(Pool(phi, world))
    made = pool(np.random.default_rng(9), models=8)
    with pytest.raises(ValueError, match=r"folds must be in \[2, 8\], got 9"):
        audits.lira(made, folds=9)
    with pytest.raises(ValueError, match="variance must be 'example' or 'global'"):
        audits.lira(made, variance="none")
    # Every second model is OUT: a group of them leaves none.
    in_turn = Pool(np.zeros((8, 2)), np.tile([[IN], [OUT]], (4, 2)))
    with pytest.raises(ValueError, match="folds=2 leaves 0 models of a world"):
        audits.lira(in_turn, folds=2)
    with pytest.raises(ValueError, match="needs at least 4 UNLEARNED models"):
        audits.ruli(in_turn)
