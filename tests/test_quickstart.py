"""The quickstart in its smallest form, stopped and gone on with."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import scripts


def quickstart(out, *options):
    return scripts.run("quickstart", "--out", str(out), "--seeds", "2", *options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "quickstart"
    run = quickstart(out, "--methods", "logit_mask", "ascent", "--no-network")
    assert run.returncode == 0, run.stderr
    return out, run.stdout


@pytest.mark.slow
def test_it_leaves_results_checkpoints_and_a_report(finished):
    out, printed = finished
    document = hf.report.read(out / "results.json")
    methods = [row["method"] for row in document["rows"]]
    assert methods == [
        "original",
        "retrain",
        "ceiling",
        "ablation/longer",
        "logit_mask",
        "ascent",
    ]
    assert all(row["n"] == 2 for row in document["rows"])
    page = (out / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "<script" not in page
    unlearned = hf.checkpointing.load(
        out / "class-3" / "ascent", kind="unlearned/ascent"
    )
    kernel = unlearned["variables"]["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (2, 64, 64)
    assert "smoke run" in printed and "ascent" in printed


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten(finished):
    out, _ = finished
    before = (out / "results.json").read_bytes()
    run = quickstart(out, "--methods", "logit_mask", "ascent", "--no-network")
    assert run.returncode != 0 and "--resume" in run.stderr
    run = quickstart(out, "--methods", "ssd", "--no-network", "--resume")
    assert run.returncode != 0 and "choose another --out" in run.stderr
    assert (out / "results.json").read_bytes() == before


@pytest.mark.slow
def test_resuming_gives_the_same_numbers(finished):
    out, _ = finished
    before = json.loads((out / "results.json").read_text())["rows"]
    (out / "results.json").unlink()
    options = "--methods", "logit_mask", "ascent", "--no-network", "--resume"
    run = quickstart(out, *options)
    assert run.returncode == 0, run.stderr
    assert json.loads((out / "results.json").read_text())["rows"] == before


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ("--methods", "magic", "fiun", "none"),
            "--methods must be among logit_mask, finetune, ascent, neggrad_plus, ssd, "
            "fiun, pgu, dihyfo; got magic, none.\n",
        ),
        (("--seeds", "1"), "--seeds must be at least 2, got 1: the ceiling compares "),
        (("--forget", "11"), "--forget: classes must lie in [0, 10), got [11].\n"),
    ],
)
def test_bad_options_are_refused_in_one_line(tmp_path, options, message):
    run = quickstart(tmp_path / "out", *options)
    assert run.returncode == 2 and not (tmp_path / "out").exists()
    assert run.stderr.startswith(message) and run.stderr.count("\n") == 1


def test_help_and_errors_of_the_parser_name_what_there_is(tmp_path):
    run = quickstart(tmp_path / "out", "--preset", "imagenet")
    assert run.returncode == 2 and "digits" in run.stderr and "mnist" in run.stderr
    (script,) = scripts.load("quickstart")
    shown = quickstart(tmp_path / "out", "--help").stdout.replace("│", "")
    said = " ".join(shown.split())
    assert f"(default: {' '.join(script.METHODS)})" in said


@pytest.fixture
def tiny(monkeypatch):
    """The three systems, hardly trained: what they answer does not matter."""
    recipes, presets, artifacts = scripts.load(
        "recipes", "dihyfo_presets", "dihyfo_artifacts"
    )
    recipe = dataclasses.replace(recipes.RECIPES["digits"], hidden=(8,), steps=60)
    zoo = dataclasses.replace(
        presets.QUICKSTART["digits"],
        recipe=recipe,
        starts=2,
        teachers=1,
        forget_warmup=2,
        forget_steps=10,
        checkpoint_steps=(5,),
        network=hypernet.HypernetConfig(width=8, depth=1, mixer="mean"),
        train=hypernet.TrainConfig(steps=20, batch_size=4),
    )
    monkeypatch.setitem(recipes.RECIPES, "digits", recipe)
    monkeypatch.setitem(presets.QUICKSTART, "digits", zoo)
    return artifacts, zoo


@pytest.mark.slow
def test_the_three_systems_answer_and_go_on_where_they_were_stopped(
    tiny, tmp_path, monkeypatch
):
    _, zoo = tiny
    save, asked = hypernet.save_hypernetwork, []

    def stopped(path, network, params):
        asked.append(params)
        raise KeyboardInterrupt

    out, options = tmp_path / "out", ("--methods", "fiun", "pgu", "dihyfo")
    monkeypatch.setattr(hypernet, "save_hypernetwork", stopped)
    run = quickstart(out, *options)
    assert run.returncode != 0 and "--resume" in run.stderr
    assert len(asked) == 1 and (out / "dihyfo/unfinished/dihyfo_2-0").exists()
    assert not (out / "dihyfo/unfinished/zoo-1000").exists()  # The zoo is whole.
    assert not (out / "results.json").exists()

    monkeypatch.setattr(hypernet, "save_hypernetwork", save)
    monkeypatch.setattr(hypernet, "edit_zoo", None)  # It is not made again.
    run = quickstart(out, *options, "--resume")
    assert run.returncode == 0, run.stderr
    assert not (out / "dihyfo/unfinished").exists()
    document = hf.report.read(out / "results.json")
    rows = {row["method"]: row for row in document["rows"]}
    assert {"fiun", "pgu", "dihyfo"} <= set(rows)
    assert rows["dihyfo"]["access"]["unlearn"] == ["classes"]
    assert rows["dihyfo"]["factors"]["starts"] == zoo.starts
    assert document["config"]["hyper"]["dihyfo"]["train"]["steps"] == 20
    assert document["config"]["made_in_seconds"]["dihyfo_2-0"] > 0
    assert rows["dihyfo"]["num_train"] == 1118
    assert 100 < rows["dihyfo"]["num_forgotten"] < 120
    page = (out / "report.html").read_text()
    assert "A federated network" in page and "data:image/png" in page

    # What was stopped and gone on with is what it would have been.
    _, params = hypernet.load_hypernetwork(
        out / "dihyfo/networks/dihyfo_2-0", hf.from_linen(hf.models.MLP((8,)))
    )
    for one, other in zip(
        *(jax.tree.leaves(each) for each in (params, asked[0])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_originals_are_in_no_zoo_and_the_test_split_is_not_read(tiny, tmp_path):
    artifacts, zoo = tiny
    (studies,) = scripts.load("study")
    study = studies.Study("test", zoo.recipe, 2, tmp_path)
    unread = study.splits.test._replace(x=np.full_like(study.splits.test.x, np.nan))
    study.splits = study.splits._replace(test=unread)
    method, seconds = artifacts.quickstart(study, zoo)
    assert {"log_probs", "zoo", "dihyfo_2-0"} == set(seconds)
    starts = hypernet.load_zoo(tmp_path / "dihyfo/zoo").starts["params"]
    originals = study.originals["params"]
    of = [np.asarray(p["Dense_0"]["kernel"]) for p in (starts, originals)]
    apart = np.abs(of[0][:, None] - of[1][None]).max(axis=(2, 3))
    assert apart.shape == (2, 2) and apart.min() > 0.01
    # Trained alike: the network is made for models of their norm.
    unlearner = method(study.classifier)
    ratios = []
    for seed in range(2):
        member = jax.tree.map(lambda leaf, seed=seed: leaf[seed], study.originals)
        state = unlearner.init(jax.random.key(0), member, study.splits.train)
        request = hf.forget_labels([3], num_classes=10)
        ratios.append(
            unlearner.unlearn(jax.random.key(1), state, request)[1].norm_ratio
        )
    np.testing.assert_allclose(ratios, 1, atol=0.1)
