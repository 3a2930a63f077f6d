"""The study of audits: a small one, gone on with, and what it is made of."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import hyperforget_jax as hf
from hyperforget_jax import audits
from tests import scripts

audit, audit_attacks = scripts.load("audit", "audit_attacks")


def posed(shift, models=40, examples=30):
    draw = np.random.default_rng(0)
    own = draw.random((models, examples)) < 0.5
    scores = draw.normal(size=own.shape) + shift * own
    return audit_attacks.Posed({"u-lira": scores}, own)


def test_attacks_stand_beside_floor_and_original():
    found = audit_attacks.attacks(posed(1), posed(0), posed(3))
    names = [each.audit for each in found]
    assert names == ["u-lira, auc", "u-lira, true positives at 1 %"]
    given = posed(1)
    auc = roc_auc_score(given.own.ravel(), given.scores["u-lira"].ravel())
    assert found[0].value == pytest.approx(auc)
    low, high = found[0].interval
    assert low < auc < high < low + 0.15
    assert found[0].floor < auc < found[0].original
    assert found[1].value == audits.tpr_at(
        0.01, given.scores["u-lira"][given.own], given.scores["u-lira"][~given.own]
    )


def test_curves_never_exceed_the_attack_and_end_at_one():
    given = posed(1)
    (curve,) = audit_attacks.curves(given)
    negatives = np.sort(given.scores["u-lira"][~given.own])
    positives = given.scores["u-lira"][given.own]
    assert curve["fpr"][0] == pytest.approx(1 / negatives.size)
    for level, true in zip(curve["fpr"], curve["tpr"], strict=True):
        # As many negatives as the level allows lie above the threshold.
        threshold = (
            negatives[-1 - int(level * negatives.size + 1e-9)] if level < 1 else -9
        )
        assert true == pytest.approx(np.mean(positives > threshold), abs=1e-9)
    assert curve["tpr"][-1] == 1


def test_histograms_count_every_model_once():
    draw = np.random.default_rng(0)
    kinds = ("original",) * 5 + ("retrained",) * 6 + ("unlearned",) * 7
    claim = audits.Claim(draw.normal(size=(18, 9, 3)), draw.integers(3, size=9), kinds)
    found = audits.histograms(claim)
    assert len({each["example"] for each in found}) == 4
    for each in found:
        counts = [sum(each[kind]) for kind in audits.KINDS]
        assert counts == [5, 6, 7] and len(each["edges"]) == 25


def row(value, told=(), half=0.5):
    interval = [value - half, value + half]
    found = {"audit": "klom", "value": value, "interval": interval}
    return {
        "scenario": "class",
        "method": "fiun",
        "audits": [found, {"audit": "x", "value": value, "interval": None}],
        "accused_by": list(told),
    }


def test_a_check_finds_values_far_off_and_other_verdicts():
    record = [row(1.5)]
    # Four standard errors of a difference are 4 sqrt(2) 0.5 / 1.96 = 1.44.
    assert audit.compared([row(2.9)], record) == []
    (outside,) = audit.compared([row(3.0)], record)
    assert "klom is 1.5 from the record" in outside
    assert audit.compared([row(1.51, half=0)], [row(1.5, half=0)]) == []
    (told,) = audit.compared([row(1.5, ["klom"])], record)
    assert "accused by ['klom']" in told
    (absent,) = audit.compared([row(1.5) | {"method": "pgu"}], record)
    assert "not in the record" in absent
    more = row(1.5)
    more["audits"] = more["audits"][:1]
    (fewer,) = audit.compared([more], record)
    assert "other audits, ['x']" in fewer


def study(out, *options):
    options = ("--models", "5", "--scenarios", "class", *options)
    return scripts.run("audit", "--out", str(out), *options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "audit"
    run = study(out, "--methods", "logit_mask")
    assert run.returncode == 0, run.stderr
    return out


@pytest.mark.slow
def test_a_small_study_leaves_a_record_a_page_and_a_folder_for_the_command(finished):
    document = hf.report.read_audit(finished / "results.json")
    (found,) = document["rows"]
    assert found["models"] == {"original": 5, "retrained": 10, "unlearned": 5}
    values = {each["audit"]: each for each in found["audits"]}
    assert values["u-lira, auc"]["value"] > 0.9
    assert found["metrics"]["forget_accuracy_test"]["mean"] == 0
    assert "logit_mask" in (finished / "report.html").read_text()
    claim = audits.load_folder(finished / "class/logit_mask")
    again = audits.judge(*claim)
    assert again.accused_by == tuple(found["accused_by"])


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(finished):
    before = json.loads((finished / "class/logit_mask/row.json").read_text())
    refused = study(finished, "--methods", "logit_mask", "fiun")
    assert refused.returncode == 2 and "--resume" in refused.stderr
    run = study(finished, "--methods", "logit_mask", "fiun", "--resume")
    assert run.returncode == 0, run.stderr
    rows = hf.report.read_audit(finished / "results.json")["rows"]
    assert [each["method"] for each in rows] == ["logit_mask", "fiun"]
    assert rows[0] == before


@pytest.mark.slow
def test_a_cell_of_the_record_is_made_again_within_its_intervals(tmp_path):
    part = ("--check", "--scenarios", "class", "--methods", "logit_mask")
    run = scripts.run("audit", "--out", str(tmp_path / "audit"), *part)
    assert run.returncode == 0, run.stderr


def test_unknown_scenarios_and_methods_are_refused_before_anything_is_made(tmp_path):
    for option in ("--scenarios", "--methods"):
        run = scripts.run("audit", option, "nothing", "--out", str(tmp_path / "audit"))
        assert run.returncode == 2 and "nothing" in run.stderr
    for options in (
        ("--models", "3"),
        ("--scenarios", "random", "--methods", "logit_mask"),
        ("--check", "--resume"),
    ):
        run = scripts.run("audit", *options, "--out", str(tmp_path / "audit"))
        assert run.returncode == 2 and run.stderr.strip()
    assert not (tmp_path / "audit").exists()
