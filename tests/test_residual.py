"""The study of a residual network, with a small one of digits in its place."""

import dataclasses

import numpy as np
import pytest

import hyperforget_jax as hf
from tests import scripts

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A run that was asked for a class, how it is gone on with, and its folder."""
    recipes, residual = scripts.load("recipes", "residual")
    small = dataclasses.replace(
        recipes.RECIPES["cifar10_resnet8"],
        # Crops and flips would make other digits.
        **dict(dataset="digits", network=None, hidden=(32,), crop_and_flip=None),
        **dict(steps=300, judged=600),
    )
    out = tmp_path_factory.mktemp("runs") / "residual"
    methods = ("--seeds", "2", "--methods", "fiun", "pgu")
    options = (*methods, "--out", str(out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "cifar10_resnet8", small)
        patch.setattr(residual, "LABELS", (3, 5))
        run = scripts.run("residual", *options, "--scenarios", "class")
        assert run.returncode == 0, run.stderr
        yield out, options


def test_a_root_and_its_descendants_forget_together(asked, tmp_path):
    originals, out = str(asked[0]), str(tmp_path / "descendants")
    for wrong in (("--originals", str(tmp_path)), ("--seeds", "3")):
        options = ("--originals", originals, "--out", out, *wrong)
        run = scripts.run("residual_descendants", *options)
        assert run.returncode == 2 and "holds no run of" in run.stderr
    assert not (tmp_path / "descendants").exists()
    options = ("--originals", originals, "--descendants", "3", "--out", out)
    run = scripts.run("residual_descendants", *options)
    assert run.returncode == 0, run.stderr
    found = hf.report.read(tmp_path / "descendants/results.json", references=False)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == ["original", "retrain", "inheritance.fiun"]

    def values(method, name):
        return np.array(rows[method]["metrics"][name]["values"])

    assert (values("original", "forget_accuracy_test") > 0.8).all()
    assert (values("retrain", "forget_accuracy_test_worst") == 0).all()
    fiun = rows["inheritance.fiun"]
    assert (values("inheritance.fiun", "forget_accuracy_test_worst") < 0.1).all()
    retained = values("inheritance.fiun", "retain_accuracy_test_worst")
    assert (retained > values("retrain", "retain_accuracy_test_worst") - 0.1).all()
    again, taken = rows["retrain"]["seconds"]["unlearn"], fiun["seconds"]["unlearn"]
    np.testing.assert_allclose(fiun["metrics"]["ratio"]["mean"], again / taken)


def test_classes_are_forgotten_in_turn_and_rows_too(asked):
    out, options = asked
    first = hf.report.read(out / "results.json")["rows"]
    models = out / "class-3/retrained"
    before = sorted(models.rglob("*"))
    run = scripts.run("residual", *options, "--resume")
    assert run.returncode == 0, run.stderr
    rows = hf.report.read(out / "results.json")["rows"]
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
