"""The study of projected-gradient unlearning in a small form, and gone on with."""

import json

import numpy as np
import pytest

import hyperforget_jax as hf
from tests import scripts

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow


def study(out, *options):
    options = ("--seeds", "2", "--scenarios", "part", *options)
    return scripts.run("pgu", "--out", str(out), *options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pgu"
    run = study(out, "--methods", "neggrad_plus")
    assert run.returncode == 0, run.stderr
    return out


def test_rows_of_a_class_are_forgotten_by_all_that_was_asked(finished):
    document = hf.report.read(finished / "results.json")
    rows = {row["method"]: row for row in document["rows"]}
    assert list(rows) == [
        "original",
        "retrain",
        "ceiling",
        "neggrad_plus",
        "pgu",
        "pgu/rows",
        "pgu/published",
    ]
    assert {row["request"] for row in rows.values()} == {"10 rows of class 3"}
    told = rows["pgu"]["metrics"]
    assert told["refused"]["max"] == 0 and told["rounds"]["min"] == 10
    assert 0 < told["relative_drift_max"]["max"] < 1
    values = [
        np.array(row["metrics"]["retain_accuracy_train"]["values"])
        for row in (rows["pgu"], rows["original"])
    ]
    # A tenth of a class is no reason to forget the rest.
    assert (values[0] >= values[1] - 0.02).all()


def test_a_finished_run_is_gone_on_with_and_by_no_other(finished):
    before = json.loads((finished / "results.json").read_text())["rows"]
    run = study(finished, "--methods", "neggrad_plus")
    assert run.returncode != 0 and "--resume" in run.stderr
    run = study(finished, "--methods", "ssd", "--resume")
    assert run.returncode != 0 and "another --out" in run.stderr
    run = study(finished, "--methods", "neggrad_plus", "--resume")
    assert run.returncode == 0, run.stderr
    assert json.loads((finished / "results.json").read_text())["rows"] == before


def test_what_is_not_there_is_named(tmp_path):
    for options, message in (
        (("--preset", "imagenet"), "--preset must be among "),
        (("--scenarios", "all"), "; got all."),
        (("--methods", "magic"), "; got magic."),
    ):
        run = study(tmp_path / "none", *options)
        assert run.returncode != 0 and message in run.stderr
    assert not (tmp_path / "none").exists()
