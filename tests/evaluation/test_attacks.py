"""Membership inference against brute force, and against what it must not be."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hyperforget_jax.evaluation import attack_accuracy, auc, tpr_at_fpr

# Few distinct values, so that there are ties.
loss_lists = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=30)


def brute_force_auc(members, non_members):
    """Every pair: a member's loss below a non-member's wins, equal losses half."""
    pairs = [(m < n) + (m == n) / 2 for m in members for n in non_members]
    return np.mean(pairs)


def brute_force_tpr(members, non_members, fpr):
    """Every threshold that can make a difference."""
    best = 0.0
    for threshold in {-np.inf, *members, *non_members}:
        if np.mean(np.asarray(non_members) <= threshold) <= fpr:
            best = max(best, np.mean(np.asarray(members) <= threshold))
    return best


@hypothesis.given(loss_lists, loss_lists)
def test_auc_equals_counting_pairs(members, non_members):
    got = auc(members, non_members)
    # Float64 sums in another order.
    assert got == pytest.approx(brute_force_auc(members, non_members), abs=1e-12)


def test_low_loss_means_member():
    assert auc([0.1, 0.2], [1.0, 2.0]) == 1
    assert auc([1.0, 2.0], [0.1, 0.2]) == 0
    assert auc([1.0], [1.0]) == 0.5


@hypothesis.given(
    loss_lists, loss_lists, st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0])
)
def test_tpr_at_fpr_equals_trying_every_threshold(members, non_members, fpr):
    got = tpr_at_fpr(members, non_members, fpr, min_non_members=1)
    assert got == brute_force_tpr(members, non_members, fpr)


@pytest.mark.parametrize("size", [200, 300, 700, 1000])
def test_tpr_at_fpr_uses_the_whole_allowance(size):
    # Of 100 k non-members exactly k may be accused. floor(0.01 * size) in floating
    # point would not always say so.
    allowed = size // 100
    non_members = np.arange(size, dtype=float)
    members = np.arange(size) - 0.5
    assert tpr_at_fpr(members, non_members) == np.mean(members < allowed)


def test_tpr_is_left_out_below_200_non_members():
    losses = np.linspace(0, 1, 200)
    assert tpr_at_fpr(losses, losses[:199]) is None
    assert tpr_at_fpr(losses, losses) == pytest.approx(0.01)


def test_attack_accuracy_is_a_half_on_identical_distributions():
    random = np.random.default_rng(0)
    members, non_members = random.exponential(size=(2, 2000))
    # Three standard deviations of a proportion over 4000 guesses.
    assert attack_accuracy(members, non_members) == pytest.approx(0.5, abs=0.025)


def test_attack_accuracy_is_a_half_when_all_losses_are_equal():
    assert attack_accuracy(np.ones(50), np.ones(30)) == 0.5


def test_attack_accuracy_is_one_on_separated_losses():
    random = np.random.default_rng(0)
    members = random.uniform(0, 0.1, 100)
    assert attack_accuracy(members, random.uniform(3, 4, 100)) == 1


def test_attack_accuracy_survives_the_losses_of_a_masked_model():
    random = np.random.default_rng(0)
    masked = 1e9 + random.normal(size=(2, 100))
    assert 0 <= attack_accuracy(*masked) <= 1


@pytest.mark.parametrize("sizes", [(1000, 100), (100, 1000)])
def test_attack_accuracy_gains_nothing_from_unequal_groups(sizes):
    random = np.random.default_rng(1)
    members, non_members = (random.exponential(size=size) for size in sizes)
    # Guessing the larger group would be right in 0.91 of all cases. The smaller
    # group's 100 guesses have a standard deviation of 0.05, halved by the mean.
    assert attack_accuracy(members, non_members) == pytest.approx(0.5, abs=0.075)


def test_attack_accuracy_is_not_measured_in_sample():
    # Six against six, the same distribution. Who sees the example it guesses is right
    # more often than not over many draws; who does not, is not.
    random = np.random.default_rng(0)
    labels = np.repeat([True, False], 6)
    honest, in_sample = [], []
    for _ in range(40):
        losses = random.normal(size=12)
        honest.append(attack_accuracy(losses[labels], losses[~labels]))
        regression = LogisticRegression().fit(losses[:, None], labels)
        in_sample.append(np.mean(regression.predict(losses[:, None]) == labels))
    assert np.mean(in_sample) > 0.57
    # Two standard errors: the spread over draws is 0.2.
    assert np.mean(honest) == pytest.approx(0.5, abs=0.06)


def test_attack_accuracy_is_deterministic_and_uses_stratified_folds():
    random = np.random.default_rng(0)
    members, non_members = random.exponential(size=40), random.exponential(size=7) + 1
    first = attack_accuracy(members, non_members)
    assert first == attack_accuracy(members, non_members)
    # Seven fold-mates at most: fewer non-members than folds still work.
    assert 0 <= attack_accuracy(members, non_members[:3]) <= 1


@pytest.mark.parametrize("attack", [auc, attack_accuracy, tpr_at_fpr])
def test_bad_losses_are_named(attack):
    with pytest.raises(ValueError, match="non_members must be a list .* at least one"):
        attack([1.0, 2.0], [])
    with pytest.raises(ValueError, match="members must be finite.*nan at position 1"):
        attack([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="members must be a list"):
        attack([[1.0]], [1.0])


def test_attack_accuracy_needs_two_of_each():
    with pytest.raises(ValueError, match="smaller group has 1"):
        attack_accuracy([1.0, 2.0], [1.0])
