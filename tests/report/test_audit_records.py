"""Records of audits hold their schema, and each violation is named by its place."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.audits import judge, tpr_at
from hyperforget_jax.report import (
    audit_row,
    confidence_histogram,
    read_audit,
    roc_points,
    validate_audit,
    write_audit,
)
from hyperforget_jax.report.audit_records import judgement_of
from tests.report import audit_samples as samples


@pytest.fixture
def document():
    told = samples.judgement(0.5, ("u-lira", "klom"))
    rows = [samples.row("mine", told), samples.row("other", curves=False)]
    return samples.document(rows)


def test_written_records_are_read_back(tmp_path, document):
    path = tmp_path / "deep" / "audit.json"
    write_audit(path, document)
    assert read_audit(path) == document
    assert [file.name for file in path.parent.iterdir()] == ["audit.json"]


def test_a_row_says_what_the_judgement_says():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(40, 6, 3))
    kinds = ["original"] * 8 + ["retrained"] * 24 + ["unlearned"] * 8
    labels = draw.integers(3, size=6)
    logits[-8:] += 4 * np.eye(3)[labels]
    found = judge(logits, labels, kinds)
    row = samples.row(found=found, intervals={"u-lira": (0.5, np.float32(1))})
    assert judgement_of(row) == found
    assert row["models"] == {"original": 8, "retrained": 24, "unlearned": 8}
    assert (row["a_side"], row["examples"], row["level"]) == (8, 6, 0.05)
    assert row["verdict"] == found.verdict
    assert tuple(row["accused_by"]) == found.accused_by != ()
    audits = {each["audit"]: each for each in row["audits"]}
    assert audits["u-lira"]["interval"] == [0.5, 1.0]
    assert audits["accuracy"]["interval"] is None
    assert audits["klom"]["value"] is None and "needs" in audits["klom"]["note"]
    validate_audit(samples.document([row]))


def test_metrics_are_summed_up_over_models():
    row = samples.row(metrics={"test_accuracy": [0.5, 0.75, 1.0]})
    assert row["metrics"]["test_accuracy"] == {
        **{"mean": 0.75, "std": 0.25, "min": 0.5, "max": 1.0}
    }
    # The mean of three equal numbers is none of them to the last digit.
    equal = samples.row(metrics={"test_accuracy": [0.1, 0.1, 0.1]})
    validate_audit(samples.document([equal]))


def test_intervals_are_of_audits_that_there_are():
    with pytest.raises(ValueError, match=r"intervals must be of .* got some of \['x'"):
        samples.row(intervals={"x": (0.0, 1.0)})


MISSING = object()
AUDIT = ("rows", 0, "audits")
ROC = ("rows", 0, "roc", 0)
RETRAINED = ("rows", 0, "reference_metrics", "retrained")


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("tier",), "huge", "tier: Invalid enum value 'huge'"),
        (("tier",), MISSING, "document: Object missing required field `tier`"),
        (("commit",), 3, "commit: Expected `str`, got `int`"),
        (("rows",), [], "rows: Expected `array` of length >= 1"),
        (("rows", 0, "method"), "", r"rows\[0\].method: Expected `str` of length >= 1"),
        (("rows", 1, "a_side"), -1, r"rows\[1\].a_side: Expected `int` >= 0"),
        (
            ("rows", 0, "models", "retrained"),
            MISSING,
            r"rows\[0\].models: Object missing required field `retrained`",
        ),
        (
            (*AUDIT, 2, "value"),
            float("nan"),
            r"rows\[0\].audits\[2\].value: must be finite JSON, got nan",
        ),
        ((*AUDIT, 2, "p"), 1.5, r"rows\[0\].audits\[2\].p: Expected `float` <= 1"),
        (
            (*AUDIT, 2, "floor"),
            MISSING,
            r"rows\[0\].audits\[2\]: Object missing required field `floor`",
        ),
        ((*AUDIT, 2, "interval"), [0.5], r"audits\[2\].interval: Expected `array`"),
        (
            (*AUDIT, 2, "interval"),
            [0.9, 0.1],
            r"rows\[0\].audits\[2\].interval: must not fall, got 0.9 to 0.1",
        ),
        ((*AUDIT, 2, "audit"), "ruli", r"audits\[3\].audit: 'ruli' is there already"),
        (
            (*AUDIT, 2, "value"),
            None,
            r"rows\[0\].audits\[2\].floor: must be null where there is no value",
        ),
        ((*AUDIT, 6, "note"), "", r"audits\[6\].note: must say why there is no value"),
        (
            ("rows", 0, "accused_by"),
            ["ruli"],
            r"rows\[0\].accused_by: must follow from the audits, \['klom', 'u-lira'\]",
        ),
        (
            ("rows", 0, "metrics", "retain_accuracy_test", "std"),
            -0.1,
            r"rows\[0\].metrics.retain_accuracy_test: must have min <= mean <= max",
        ),
        (
            ("rows", 0, "metrics", "retain_accuracy_test", "max"),
            97.0,
            r"rows\[0\].metrics.retain_accuracy_test: must be fractions in \[0, 1\]",
        ),
        (
            (
                "rows",
                0,
                "reference_metrics",
                "retrained",
                "retain_accuracy_test",
                "min",
            ),
            0.99,
            r"reference_metrics.retrained.retain_accuracy_test: must have min",
        ),
        (
            ("rows", 0, "reference_metrics", "gold"),
            {},
            r"rows\[0\].reference_metrics: Invalid enum value 'gold'",
        ),
        ((*ROC, "negatives"), 0, r"roc\[0\].negatives: Expected `int`"),
        ((*ROC, "fpr", 2), 2.0, r"roc\[0\].fpr\[2\]: Expected `float`"),
        (
            (*ROC, "fpr", 2),
            0.0,
            r"rows\[0\].roc\[0\].fpr: must not fall",
        ),
        ((*ROC, "tpr"), [1.0], r"roc\[0\].tpr: must be as many as fpr"),
        (
            ("rows", 0, "histograms", 0, "edges", 3),
            -99.0,
            r"rows\[0\].histograms\[0\].edges: must rise",
        ),
        (
            ("rows", 0, "histograms", 0, "unlearned"),
            [1, 2],
            r"histograms\[0\].unlearned: must be 24 counts, .*, got 2",
        ),
        (
            ("rows", 0, "seconds", "init"),
            -1,
            r"rows\[0\].seconds.init: Expected `float` >= 0",
        ),
        (("rows", 1, "method"), "mine", r"rows\[1\]: is a second row of mine / digits"),
    ],
)
def test_each_violation_is_named_by_its_place(tmp_path, document, path, value, message):
    broken = copy.deepcopy(document)
    place = broken
    for step in path[:-1]:
        place = place[step]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    file = tmp_path / "audit.json"
    with pytest.raises(ValueError, match=message):
        write_audit(file, broken)
    assert not file.exists()
    # Alike both ways.
    file.write_text(json.dumps(broken))
    with pytest.raises(
        ValueError, match=f"audit.json is not a results file: .*{message}"
    ):
        read_audit(file)


def test_access_is_written_as_in_other_records(document):
    reads = {"before": [], "init": [], "unlearn": ["retain"]}
    assert document["rows"][0]["access"] == reads
    found = samples.judgement()
    row = audit_row(
        found,
        method="m",
        scenario="s",
        request="r",
        dataset="d",
        model="m",
        access=None,
        seconds={"init": 0, "unlearn": 1},
        metrics={},
        reference_metrics={},
    )
    validate_audit(samples.document([row]))
    assert row["access"] is None and row["roc"] == row["histograms"] == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.booleans())
def test_points_of_a_curve_are_the_best_at_their_rate(seed, count, ties):
    draw = np.random.default_rng(seed)
    positive, negative = draw.normal(1, 1, 50), draw.normal(size=count)
    if ties:
        positive, negative = positive.round(), negative.round()
    curve = roc_points("a", positive, negative)
    assert curve["negatives"] == count and len(curve["fpr"]) <= 60
    assert curve["fpr"][-1] == curve["tpr"][-1] == 1
    for fpr, tpr in zip(curve["fpr"], curve["tpr"], strict=True):
        # Six digits are kept; half a false positive more allows no other threshold.
        if 0 < fpr < 1:
            level = fpr + 0.5 / count
            assert abs(tpr_at(level, positive, negative) - tpr) < 1e-5
    finest = tpr_at(1 / count, positive, negative) if count > 1 else None
    if finest is not None:
        assert abs(curve["tpr"][0] - finest) < 1e-5


def test_a_curve_needs_both_sides():
    with pytest.raises(ValueError, match="'a' need scores, got 1 positive and 0"):
        roc_points("a", np.array([1.0]), np.array([np.nan]))


def test_histograms_hold_every_model_and_what_lies_beyond():
    draw = np.random.default_rng(0)
    original, retrained = draw.normal(5, 1, 30), draw.normal(0, 1, 40)
    masked = np.full(20, -1e4)
    found = confidence_histogram(3, original, retrained, masked)
    edges = np.array(found["edges"])
    for kind, side in (("original", original), ("retrained", retrained)):
        # None of these lies beyond, and all are counted where they are.
        np.testing.assert_array_equal(found[kind], np.histogram(side, edges)[0])
        assert sum(found[kind]) == side.size
        assert found[kind][0] == found[kind][-1] == 0
    assert found["unlearned"] == [20] + [0] * 23
    constant = confidence_histogram(3, np.zeros(0), np.zeros(4), np.ones(2) * 99)
    assert sum(constant["original"]) == 0 and sum(constant["retrained"]) == 4
    assert constant["unlearned"][-1] == 2
