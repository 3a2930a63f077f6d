"""The study of a residual network, with a small one of digits in its place."""

import dataclasses

import numpy as np
import pytest

import hyperforget_jax as hf
from tests import scripts

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow


def test_classes_are_forgotten_in_turn_and_rows_too(tmp_path, monkeypatch):
    recipes, residual = scripts.load("recipes", "residual")
    small = dataclasses.replace(
        recipes.RECIPES["cifar10_resnet8"],
        # Crops and flips would make other digits.
        **dict(dataset="digits", network=None, hidden=(32,), crop_and_flip=None),
        **dict(steps=300, judged=600),
    )
    monkeypatch.setitem(recipes.RECIPES, "cifar10_resnet8", small)
    monkeypatch.setattr(residual, "LABELS", (3, 5))
    methods = ("--seeds", "2", "--methods", "fiun", "pgu")
    options = (*methods, "--out", str(tmp_path / "run"))
    run = scripts.run("residual", *options, "--scenarios", "class")
    assert run.returncode == 0, run.stderr
    first = hf.report.read(tmp_path / "run/results.json")["rows"]
    models = tmp_path / "run/class-3/retrained"
    before = sorted(models.rglob("*"))
    run = scripts.run("residual", *options, "--resume")
    assert run.returncode == 0, run.stderr
    rows = hf.report.read(tmp_path / "run/results.json")["rows"]
    assert sorted(models.rglob("*")) == before
    methods = ["original", "retrain", "ceiling", "fiun", "pgu"]
    of_rows = [*methods[:-1], "pgu/rows"]
    assert [row["method"] for row in rows] == [*methods, *methods, *of_rows]
    requests = [row["request"] for row in rows[::5]]
    assert requests == ["class 3", "class 5", "2% of the rows"]
    # What was answered before is not answered again.
    assert rows[3:5] == first[3:5]
    retrained = {row["request"]: row["metrics"] for row in rows[1::5]}
    seconds = {row["request"]: row["seconds"]["unlearn"] for row in rows[1::5]}
    for number in (3, 5):
        assert retrained[f"class {number}"]["forget_accuracy_test"]["max"] == 0
        assert seconds[f"class {number}"] > 0
    # Both classes are judged after the second: what is gone stays gone.
    for row in rows[8:10]:
        assert np.max(row["metrics"]["forget_accuracy_test"]["values"]) < 0.1
    # Single rows are brought to where the probe's are, and not driven out.
    pgu = rows[14]["metrics"]["forget_accuracy_train"]["values"]
    assert np.min(pgu) > 0.8
    assert np.min(rows[10]["metrics"]["retain_accuracy_test"]["values"]) > 0.9


def test_what_is_not_there_is_named(tmp_path):
    run = scripts.run("residual", "--methods", "magic", "--out", str(tmp_path / "none"))
    assert run.returncode == 2 and "; got magic." in run.stderr
    assert not (tmp_path / "none").exists()
