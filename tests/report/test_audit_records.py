"""Records of audits hold their schema, and each violation is named by its place."""

import copy
import json

import numpy as np
import pytest

from hyperforget_jax.audits import Audited, judge
from hyperforget_jax.report import (
    audit_row,
    read_audit,
    validate_audit,
    write_audit,
)
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
    row = samples.row(found=found, more=[Audited("probe", np.float32(0.5))])
    assert row["models"] == {"original": 8, "retrained": 24, "unlearned": 8}
    assert (row["a_side"], row["examples"], row["level"]) == (8, 6, 0.05)
    assert row["verdict"] == found.verdict
    assert tuple(row["accused_by"]) == found.accused_by != ()
    for each, audit in zip(row["audits"], found.audits, strict=False):
        interval = each["interval"] and tuple(each["interval"])
        assert Audited(**each | {"interval": interval}) == audit
    assert row["audits"][-1]["audit"] == "probe" and row["audits"][-1]["value"] == 0.5
    validate_audit(samples.document([row]))


def test_a_mean_may_leave_its_range_by_a_last_digit():
    values = np.array([0.1, 0.1, 0.1])
    of = {
        kind: float(getattr(values, kind)()) for kind in ("mean", "std", "min", "max")
    }
    assert of["mean"] > of["max"]
    row = samples.row(metrics={"test_accuracy": of})
    validate_audit(samples.document([row]))


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
            r"rows\[0\].audits\[2\].p: must be null where there is no value",
        ),
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
        ((*ROC, "fpr", 0), 0.0, r"roc\[0\].fpr\[0\]: must be the least that can be"),
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
