"""What a right audit gives, both ways; the known faults of the field are not ours."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from hyperforget_jax import audits
from hyperforget_jax.audits import IN, OUT, UNLEARNED, Pool, rates


def pool(draw, shift=0.0, *, positive=IN, models=128, examples=100):
    """Complementary halves: ``N(shift, 1)`` for one half of each example's models."""
    half = draw.random((models // 2, examples)) < 0.5
    world = np.where(np.concatenate([half, ~half]), positive, OUT)
    return Pool(draw.normal(size=world.shape) + shift * (world == positive), world)


def judged(scores, pool, positive=IN):
    return rates(scores[pool.is_(positive)], scores[pool.is_(OUT)])


@pytest.mark.parametrize("attack", [audits.lira, audits.offline_lira])
@pytest.mark.parametrize(
    "shift, auc, at_hundredth, at_thousandth, accuracy",
    [
        (0.0, 0.5, 0.01, 0.001, 0.5),
        (0.5, 0.6382, 0.0339, 0.0048, 0.5987),
        (1.0, 0.7602, 0.0924, 0.0183, 0.6915),
        (2.0, 0.9214, 0.3721, 0.1378, 0.8413),
    ],
)
def test_the_table_of_two_normals(
    attack, shift, auc, at_hundredth, at_thousandth, accuracy
):
    made = pool(np.random.default_rng(0), shift, models=256)
    found = judged(attack(made, variance="global", folds=16), made)
    # 12,800 scores a side; an area's standard error is below 0.004, and fits to 120
    # models a world cost about as much.
    assert abs(found.auc - auc) < 0.015
    if attack is audits.lira:
        assert abs(found.accuracy - accuracy) < 0.015
    for level, expected in ((0.01, at_hundredth), (0.001, at_thousandth)):
        # The threshold errs by the negatives, and the ratio of densities is the slope.
        slope = np.exp(shift * stats.norm.isf(level) - shift**2 / 2)
        error = np.hypot(slope * np.sqrt(level / 12_800), np.sqrt(expected / 12_800))
        assert abs(found.tpr[level] - expected) < 4 * error + 0.1 * expected


def test_eight_models_a_world_cost_what_their_means_do():
    # IN is judged by eight OUT models, OUT by the other seven.
    made = pool(np.random.default_rng(1), 1.0, models=16, examples=2000)
    found = judged(audits.offline_lira(made, variance="global"), made)
    expected = stats.norm.cdf(1 / np.sqrt(2 + 1 / 8 + 1 / 7))
    # 16,000 scores a side, of which sixteen share an example: 0.003.
    assert abs(found.auc - expected) < 0.01


def test_judging_the_fitted_models_would_find_what_is_not_there():
    draw = np.random.default_rng(2)
    made = pool(draw, models=16, examples=2000, positive=UNLEARNED)
    densities = []
    for world in (UNLEARNED, OUT):
        side = np.where(made.is_(world), made.phi, np.nan)
        normal = np.nanmean(side, axis=0), np.nanstd(side, axis=0, ddof=1)
        densities.append(stats.norm.logpdf(made.phi, *normal))
    in_sample = judged(densities[0] - densities[1], made, UNLEARNED)
    ours = judged(audits.ulira(made, folds=8), made, UNLEARNED)
    # 32,000 scores: 0.003; the fits shared by sixteen of them, as much again.
    assert in_sample.accuracy > 0.6
    assert abs(ours.accuracy - 0.5) < 0.01 and abs(ours.auc - 0.5) < 0.01


def test_equal_worlds_score_one_half_in_a_judgement():
    draw = np.random.default_rng(3)
    kinds = ["retrained"] * 16 + ["unlearned"] * 8
    labels = draw.integers(3, size=100)
    found = []
    for _ in range(20):
        logits = draw.normal(size=(24, 100, 3))
        verdict = audits.judge(logits, labels, kinds, exchanges=0)
        found += [each.value for each in verdict.audits if each.audit == "u-lira"]
    # 0.48 where a group that is left out has models of one side alone.
    assert len(found) == 20 and abs(np.mean(found) - 0.5) < 0.01


def rmia_pool(draw, **options):
    """Probabilities so small that no mean of them is moved by one."""
    made = pool(draw, **options)
    z = draw.normal(size=(made.phi.shape[0], 400))
    return Pool(logit(np.exp(made.phi - 8)), made.world), logit(np.exp(z - 8))


def test_rmia_takes_the_mean_of_all_models_without_an_example():
    made, z = rmia_pool(np.random.default_rng(4), models=64)
    scores = audits.rmia(made, z, online=False, offset=1.0)
    out = made.is_(OUT)
    # Never trained with, x is one of the z: its share is uniform.
    assert abs(scores[out].mean() - 0.5) < 0.02
    assert abs(np.quantile(scores[out], 0.9) - 0.9) < 0.02
    # Sorting p (1 - member) keeps the largest of them, against which all look small.
    p = expit(made.phi)
    largest = np.sort(p * out, axis=0)[-16:].mean(axis=0)
    ratio_z = expit(z) / expit(z).mean(axis=0)
    biased = (p[0] / largest)[:, None] > ratio_z[0]
    assert biased[out[0]].mean() < 0.4


def test_confidence_is_that_of_the_label_and_more_than_right_or_wrong():
    logits = np.log([0.7, 0.2, 0.1])
    found = [audits.scaled_confidence(logits[None], [y])[0] for y in range(3)]
    np.testing.assert_allclose(found, logit([0.7, 0.2, 0.1]))
    # Both worlds are always right, one of them more so: 0/1 correctness sees nothing.
    draw = np.random.default_rng(5)
    made = pool(draw, 2.0, positive=UNLEARNED)
    sure = Pool(made.phi + 20, made.world)
    right = Pool((sure.phi > 0) * 1.0, made.world)
    assert judged(audits.ulira(sure, folds=8), sure, UNLEARNED).auc > 0.9
    assert judged(audits.ulira(right, folds=8), right, UNLEARNED).auc == 0.5


@pytest.mark.parametrize("increasing", [np.exp, np.arctan, lambda x: x**3 - 7])
def test_increasing_maps_change_no_rank(increasing):
    made = pool(np.random.default_rng(6), 1.0)
    mapped = Pool(increasing(made.phi), made.world)
    assert judged(mapped.phi, mapped)[0] == judged(made.phi, made)[0]
    assert judged(mapped.phi, mapped).tpr == judged(made.phi, made).tpr


ATTACKS = {
    "lira": audits.lira,
    "offline_lira": audits.offline_lira,
    "ulira": audits.ulira,
    "ruli": lambda pool: audits.ruli(pool, folds=None),
    "rmia": lambda pool: audits.rmia(pool, pool.phi, online=False),
}
WORLDS = {"ulira": UNLEARNED, "ruli": UNLEARNED}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_what_is_permuted_constant_infinite_or_single(name):
    draw = np.random.default_rng(7)
    attack, positive = ATTACKS[name], WORLDS.get(name, IN)
    made = pool(draw, 1.0, positive=positive, models=24, examples=10)
    for example in range(10):  # So many of both, or a few models are too few.
        assert 4 <= made.is_(OUT)[:, example].sum() <= 20
    scores = attack(made)
    models, examples = draw.permutation(24), draw.permutation(10)
    other = Pool(made.phi[models][:, examples], made.world[models][:, examples])
    np.testing.assert_allclose(attack(other), scores[models][:, examples], rtol=1e-8)
    constant = Pool(np.full_like(made.phi, -1e4), made.world)
    assert judged(attack(constant), constant, positive).auc == 0.5
    signs = np.where(draw.random(made.phi.shape) < 0.5, np.inf, -np.inf)
    for phi in (signs, np.where(made.is_(OUT), made.phi, -np.inf)):
        assert np.isfinite(attack(Pool(phi, made.world))).all()
    one = Pool(np.zeros((2, 1)), [[OUT], [positive]])
    with pytest.raises(ValueError, match="needs at least . (OUT|IN|UNLEARNED) models"):
        attack(one)


def test_distances_of_populations_do_not_depend_on_the_order():
    draw = np.random.default_rng(8)
    first, second = draw.normal(size=(2, 20, 6))
    rows, examples = draw.permutation(20), draw.permutation(6)
    for distance in (audits.klom, audits.example_epsilons):
        found = distance(first, second)
        moved = distance(first[rows][:, examples], second[:, examples])
        np.testing.assert_array_equal(moved, found[examples])


def test_one_model_a_side_and_nan_are_refused_by_name():
    many, nan = np.zeros((8, 2)), np.full((8, 2), np.nan)
    with pytest.raises(ValueError, match="at least 2 models a side, got 1 and 8"):
        audits.klom(many[:1], many)
    with pytest.raises(ValueError, match="must not be NaN"):
        audits.klom(nan, many)
    with pytest.raises(ValueError, match="positive must be finite"):
        audits.held_out_bound(nan[:, 0], many[:, 0])
    with pytest.raises(ValueError, match="negative must be finite"):
        audits.held_out_bound(many[:, 0], np.array([-np.inf, np.inf] * 4))
    made = pool(np.random.default_rng(9), models=8, examples=2)
    with pytest.raises(ValueError, match="population must not be NaN"):
        audits.rmia(made, nan)


def test_rounding_is_no_distance():
    ones = np.ones((8, 1))
    assert audits.klom(ones, np.nextafter(ones, 2)) == 0
    assert audits.held_out_bound(ones[:, 0], ones[:, 0]) == 0
    assert audits.example_epsilons(ones, ones) == 0


def test_infinite_logits_on_both_sides_accuse_nobody():
    draw = np.random.default_rng(10)
    logits = draw.normal(size=(24, 5, 3))
    labels = np.zeros(5, int)
    kinds = ["retrained"] * 16 + ["unlearned"] * 8
    logits[:, 0, 0] = -np.inf
    found = audits.judge(logits, labels, kinds, exchanges=99)
    assert found.accused_by == ()
    assert all(np.isfinite(each.value) for each in found.audits if each.p is not None)
    logits[16:, :, 0] = -np.inf
    assert {"u-lira", "mean confidence"} <= set(
        audits.judge(logits, labels, kinds, exchanges=99).accused_by
    )
    logits[3] = -np.inf
    with pytest.raises(ValueError, match=r"NaN in the models \[3\], or infinities"):
        audits.judge(logits, labels, kinds)


def test_a_masked_logit_costs_what_any_other_does():
    # A grid of a hundredth from -1e6 to 0 would be a hundred million thresholds.
    draw = np.random.default_rng(11)
    masked = draw.normal(size=(16, 2)) - 1e6
    np.testing.assert_array_equal(
        audits.example_epsilons(masked, draw.normal(size=(16, 2))), 50
    )
