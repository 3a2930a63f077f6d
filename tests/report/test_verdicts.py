"""Verdicts follow their stated rules, measure by measure."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.report import metric_summary, results_row, verdict

AS_RETRAINED = {
    "forget_accuracy_test": 0.0,
    "forget_accuracy_train": 0.0,
    "retain_accuracy_test": 0.98,
    "mia_auc": 0.54,
    "js_to_oracle": 0.02,
    "relearn_steps": 35.0,
    "relearn_censored": 0.0,
}
# Of five values like these, the mean is 0 and the sample standard deviation 1.
NOISE = np.array([-1.0, -1.0, 0.0, 1.0, 1.0])


def make_row(method="mine", seeds=5, spread=0.0, drop=(), unlearn=0.1, **changed):
    means = {k: v for k, v in (AS_RETRAINED | changed).items() if k not in drop}
    noise = spread * (NOISE[:seeds] if seeds > 1 else np.zeros(1))
    metrics = [{name: mean + each for name, mean in means.items()} for each in noise]
    return results_row(
        method,
        metrics,
        dataset="digits",
        model="mlp",
        scenario="class",
        request="class 3",
        access=None,
        seconds={"init": 0.0, "unlearn": unlearn, "compile": 0.0},
    )


REFERENCES = {
    "original": make_row(
        "original", forget_accuracy_test=0.96, forget_accuracy_train=1
    ),
    "retrain": make_row("retrain", drop=("js_to_oracle",), unlearn=1.0),
    "ceiling": make_row("ceiling"),
}


def judge(**changed):
    return verdict(make_row(**changed), REFERENCES)


@pytest.mark.parametrize(
    "changed, headline, said",
    [
        ({}, "No trace found", "forgotten by accuracy"),
        ({"forget_accuracy_test": 0.019}, "No trace found", "forgotten by accuracy"),
        (
            {"forget_accuracy_test": 0.16},
            "Partly forgotten",
            "still right on 16.0% of unseen examples of the forgotten kind (retrained "
            "models: 0.0%)",
        ),
        (
            {"forget_accuracy_train": 0.3},
            "Partly forgotten",
            "still right on 30.0% of the forgotten rows (retrained models: 0.0%)",
        ),
        ({"forget_accuracy_test": 0.95}, "Not forgotten", "still right on 95.0%"),
        ({"js_to_oracle": 0.023}, "No trace found", "no farther from retraining"),
        ({"js_to_oracle": 0.001}, "No trace found", "no farther from retraining"),
        (
            {"js_to_oracle": 0.025},
            "Unlike retraining",
            "its outputs are farther from retraining than another retrained model is",
        ),
        ({"relearn_steps": 29.0}, "No trace found", "relearns as retrained models do"),
        (
            {"relearn_steps": 17.5},
            "Something is left",
            "relearns 2.0 times as fast as retrained models",
        ),
        (
            {"relearn_steps": 0.0},
            "Something is left",
            "knows the forgotten again at once",
        ),
        (
            {"relearn_steps": 50.0},
            "Unlike retraining",
            "relearns more slowly than retrained models",
        ),
        (
            {"mia_auc": 0.65},
            "Something is left",
            "membership inference still works (AUC 0.65 against 0.54)",
        ),
        (
            {"mia_auc": 0.27},
            "Unlike retraining",
            "membership AUC below retraining’s: 0.27 against 0.54",
        ),
        (
            {"retain_accuracy_test": 0.978},
            "No trace found",
            "keeps retained accuracy (-0.2 points)",
        ),
        (
            {"retain_accuracy_test": 0.9},
            "No trace found, at a cost",
            "loses 8.0 points of retained accuracy",
        ),
        (
            {"relearn_steps": 5.0, "retain_accuracy_test": 0.9},
            "Something is left, at a cost",
            "relearns 7.0 times as fast",
        ),
        ({}, "No trace found", "10 times faster than retraining"),
        ({"unlearn": 0.9}, "No trace found", "about as fast as retraining"),
    ],
)
def test_each_rule(changed, headline, said):
    found = judge(**changed)
    assert found.headline == headline
    assert said in str(found)
    assert "\n" not in str(found)


def test_the_example_of_the_rules_reads_well():
    found = judge(js_to_oracle=0.14, relearn_steps=17.5, retain_accuracy_test=0.978)
    assert str(found) == (
        "Something is left: forgotten by accuracy; its outputs are farther from "
        "retraining than another retrained model is; relearns 2.0 times as fast as "
        "retrained models; keeps retained accuracy (-0.2 points); 10 times faster than "
        "retraining."
    )


def test_forgetting_too_much_is_told():
    rows = {"forget_accuracy_train": 0.93, "drop": ("forget_accuracy_test",)}
    references = {name: make_row(name, **rows) for name in REFERENCES}
    much = make_row(**{**rows, "forget_accuracy_train": 0.07})
    assert verdict(much, references).headline == "Forgot too much"
    assert verdict(make_row(**rows), references).headline == "No trace found"


@pytest.mark.parametrize(
    "name, value",
    [
        ("forget_accuracy_test", 0.05),
        ("js_to_oracle", 0.05),
        ("relearn_steps", 25.0),
        ("mia_auc", 0.6),
        ("retain_accuracy_test", 0.95),
    ],
)
def test_a_difference_counts_from_two_standard_errors_on(name, value):
    reference = AS_RETRAINED[name]
    references = dict(REFERENCES)
    # sd / sqrt(5) is the standard error: that of the references is zero here.
    limit = abs(value - reference) * math.sqrt(5) / 2

    def found(spread):
        row = make_row(**{name: value})
        row["metrics"][name] |= {"std": spread}
        return str(verdict(row, references))

    assert " may " in found(1.001 * limit)
    assert " may " not in found(0.999 * limit)


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.4, 0.7),
    st.floats(0, 0.69),
    st.floats(0, 200),
    st.integers(1, 5),
)
def test_no_row_breaks_the_rules(forget, retain, auc, js, steps, seeds):
    found = judge(
        forget_accuracy_test=forget,
        retain_accuracy_test=retain,
        mia_auc=auc,
        js_to_oracle=js,
        relearn_steps=steps,
        seeds=seeds,
    )
    assert ("spread is unknown" in str(found)) == (seeds == 1)
    if found.headline.startswith("No trace found"):
        assert forget <= 0.02 + 1e-9 and js <= 0.024 + 1e-9
        assert 28 - 1e-9 <= steps <= 42 + 1e-9 and abs(auc - 0.54) <= 0.05 + 1e-9


def test_relearning_that_was_cut_short_tells_what_it_can():
    censored = metric_summary([0, 0, 0, 0, 1])
    fast = make_row(relearn_steps=10.0)
    fast["metrics"]["relearn_censored"] = censored
    assert "cut short before it could tell" in str(verdict(fast, REFERENCES))
    slow = make_row(relearn_steps=90.0)
    slow["metrics"]["relearn_censored"] = censored
    assert "relearns more slowly" in str(verdict(slow, REFERENCES))
    retrain = make_row("retrain")
    retrain["metrics"]["relearn_censored"] = censored
    references = REFERENCES | {"retrain": retrain}
    # Retraining takes longer than that, and so the method is fast all the more.
    assert "times as fast" in str(verdict(make_row(relearn_steps=10.0), references))
    assert "cut short" in str(verdict(make_row(), references))


def test_what_was_not_measured_is_said():
    found = verdict(make_row(), {})
    assert found.headline == "Forgotten by accuracy alone"
    assert str(found).endswith(
        "not measured: how far retrained models are from each other, what it costs in "
        "retained accuracy; nothing to compare with (no retrained models): relearning, "
        "membership inference."
    )
    found = verdict(make_row(drop=("forget_accuracy_test", "js_to_oracle")), {})
    assert found.headline == "Inconclusive"
    assert "not measured: distance of its outputs from retraining" in str(found)
    assert "models): whether forgotten rows look unseen, relearning" in str(found)
    bare = ("forget_accuracy_train", "relearn_steps", "mia_auc", "forget_accuracy_test")
    assert "nothing to compare with" not in str(verdict(make_row(drop=bare), {}))
    one = {"ceiling": REFERENCES["ceiling"], "retrain": REFERENCES["retrain"]}
    found = verdict(make_row(drop=("relearn_steps",)), one)
    assert (
        found.headline == "No trace found, but some tests are missing or inconclusive"
    )
    # Without the original, what is too much is not said to be less than before.
    found = verdict(make_row(forget_accuracy_test=0.4), one)
    assert found.headline == "Not forgotten"


def test_one_seed_has_no_spread():
    found = judge(seeds=1, js_to_oracle=0.05)
    assert found.headline == "Unlike retraining"
    assert str(found).endswith("one seed: its spread is unknown.")
