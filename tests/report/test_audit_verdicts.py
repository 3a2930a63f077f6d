"""Verdicts of audits follow their stated rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.report import audit_verdict
from hyperforget_jax.report.audit_verdicts import AUDIT_RULES
from tests.report import audit_samples as samples

FEW = {name: {"value": None, "p": None, "note": "needs"} for name in samples.NAMES}


def judged(share=0.0, accused=(), *, row=None, **changed):
    found = samples.judgement(share, accused, **changed)
    return audit_verdict(samples.row(found=found, curves=False, **row or {}))


def utility(deviation=0.0, **means):
    """What unlearned models can do, where retrained ones are at 0.97 and 0.96."""
    usual = {"retain_accuracy_test": 0.97, "forget_accuracy_train": 0.96}
    return {"metrics": samples.spread(deviation, **usual | means)}


def test_telling_names_the_audits_and_how_much():
    found = judged(0.4, ("u-lira", "reverse klom"))
    assert str(found) == (
        "Distinguished from retrained models: by u-lira and reverse klom; about 40% of "
        "what the original shows; keeps retained accuracy (+0.0 points); too few "
        "models for forgetting score."
    )
    assert "by all 6 audits; about 100% of" in str(judged(1.0, samples.NAMES))
    assert "by ruli; about 55% of" in str(judged(0.55, ("ruli",)))


def test_telling_by_none_says_at_how_many_models():
    found = judged(0.9)
    assert str(found) == (
        "Not distinguished from retrained models: by none of 6 audits at 128 models a "
        "side; keeps retained accuracy (+0.0 points); too few models for forgetting "
        "score."
    )


def test_too_few_models_for_every_audit_are_said():
    found = judged(side=1, **FEW)
    assert str(found).startswith(
        "Inconclusive: too few models for every audit (1 model a side); keeps"
    )


@pytest.mark.parametrize(
    "share, said",
    [
        (-0.2, "less than 5% of what the original shows"),
        (0.024, "less than 5% of what the original shows"),
        (0.026, "about 5% of what the original shows"),
        (1.22, "about 120% of what the original shows"),
        (1.24, "about 1.2 times what the original shows"),
        (3.0, "about 3.0 times what the original shows"),
        (11.0, "more than 10 times what the original shows"),
    ],
)
def test_how_much_is_the_place_between_floor_and_original(share, said):
    assert said in str(judged(share, ("u-lira",)))


def test_how_much_is_the_median_over_those_that_tell_and_see_the_original():
    values = {"accuracy": 0.5, "u-lira": 0.7, "ruli": 0.9}  # 0, 50 and 100 %.
    changed = {name: {"value": value} for name, value in values.items()}
    assert "about 50% of" in str(judged(0.3, tuple(values), **changed))
    # One that does not tell, and one for which the original is at its floor.
    changed["ruli"]["original"] = 0.5
    assert "about 25% of" in str(judged(0.9, tuple(values), **changed))
    blind = {name: {"original": 0.5} for name in samples.NAMES}
    said = "where the original is not seen: a trace of the unlearning itself"
    assert said in str(judged(0.9, ("u-lira",), **blind))
    without = judged(0.9, ("u-lira",), original=False)
    assert "too few original models to say how much" in str(without)


@pytest.mark.parametrize(
    "means, said",
    [
        ({"forget_accuracy_train": 0.975}, None),
        (
            {"forget_accuracy_train": 0.99},
            "still right on 99.0% of the forgotten rows (retrained models: 96.0%)",
        ),
        (
            {"forget_accuracy_train": 0.4},
            "forgot too hard: right on 40.0% of the forgotten rows",
        ),
        (
            {"attack_success": 0.5},
            "the trigger still works on 50.0% of the images that carry it (retrained "
            "models: 10.0%)",
        ),
        ({"attack_success": 0.0}, "the trigger works on only 0.0% of the images"),
        ({"attack_success": 0.11}, None),
    ],
)
def test_direction_is_said_from_two_points_on(means, said):
    target = {"retain_accuracy_test": 0.97, "forget_accuracy_train": 0.96}
    target = {"retrained": samples.spread(**target, attack_success=0.1)}
    row = utility(**means) | {"reference_metrics": target}
    found = str(judged(0.0, row=row))
    assert said in found if said else "%" not in found


def test_a_difference_counts_from_two_standard_errors_on():
    # sd / sqrt(128) is the standard error; retrained models have no spread here.
    limit = 0.1 * math.sqrt(samples.SIDE) / 2
    for factor, is_said in ((0.99, True), (1.01, False)):
        row = utility(factor * limit, forget_accuracy_train=0.86)
        del row["metrics"]["retain_accuracy_test"]
        found = judged(row=row)
        assert ("forgot too hard" in str(found)) == is_said


@pytest.mark.parametrize(
    "mean, deviation, is_dear, said",
    [
        (0.97, 0.0, False, "keeps retained accuracy (+0.0 points)"),
        (0.99, 0.0, False, "keeps retained accuracy (+2.0 points)"),
        (0.9601, 0.0, False, "keeps retained accuracy (-1.0 points)"),
        (0.95, 0.0, True, "loses 2.0 points of retained accuracy"),
        # Two standard errors are 2 * 0.1 / sqrt(128) = 0.0177.
        (0.951, 0.1, True, "loses 1.9 points of retained accuracy"),
        (0.954, 0.1, False, "may lose retained accuracy (-1.6 points)"),
    ],
)
def test_cost_is_said_against_retrained_models(mean, deviation, is_dear, said):
    metrics = samples.spread(deviation, retain_accuracy_test=mean)
    found = judged(0.4, ("u-lira",), row={"metrics": metrics})
    assert said in str(found)
    assert found.headline.endswith(", at a cost") == is_dear


def test_cost_against_the_original_where_nothing_was_measured_of_retrained_models():
    original = {"original": samples.spread(retain_accuracy_test=0.975)}
    found = judged(row=utility() | {"reference_metrics": original})
    assert "keeps retained accuracy (-0.5 points)" in str(found)
    found = judged(row=utility() | {"reference_metrics": {}})
    assert "what it costs in retained accuracy was not measured" in str(found)


def test_a_bound_above_zero_is_said_and_tells_nobody():
    found = judged(0.0, **{"epsilon, lower bound": {"value": 1.234}})
    assert found.headline == "Not distinguished from retrained models"
    assert "epsilon is at least 1.23" in str(found)
    assert "epsilon" not in str(judged(0.9, ("u-lira",)))


@given(
    st.floats(-1, 20),
    st.sets(st.sampled_from(samples.NAMES)),
    st.floats(0, 1),
    st.booleans(),
)
def test_no_row_breaks_the_rules(share, accused, retain, original):
    row = {"metrics": samples.spread(retain_accuracy_test=retain)}
    found = judged(share, accused, row=row, original=original)
    assert found.headline.startswith("Distinguished") == bool(accused)
    assert found.headline.endswith("at a cost") == (retain < 0.96)
    assert "\n" not in str(found) and ".." not in str(found)


def test_the_rules_say_their_numbers():
    text = " ".join(AUDIT_RULES)
    for said in (
        "2 standard errors",
        "2 such",
        "2 points",
        "1 point",
        "Holm",
        "median",
    ):
        assert said in text
