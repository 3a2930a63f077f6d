"""The quickstart in its smallest form, stopped and gone on with."""

import json

import pytest

import hyperforget_jax as hf
from tests import scripts


def quickstart(out, *options):
    return scripts.run("quickstart", "--out", str(out), "--seeds", "2", *options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "quickstart"
    run = quickstart(out, "--methods", "logit_mask", "ascent")
    assert run.returncode == 0, run.stderr
    return out, run.stdout


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


def test_a_finished_run_is_not_overwritten(finished):
    out, _ = finished
    before = (out / "results.json").read_bytes()
    run = quickstart(out, "--methods", "logit_mask", "ascent")
    assert run.returncode != 0 and "--resume" in run.stderr
    run = quickstart(out, "--methods", "ssd", "--resume")
    assert run.returncode != 0 and "choose another --out" in run.stderr
    assert (out / "results.json").read_bytes() == before


def test_resuming_gives_the_same_numbers(finished):
    out, _ = finished
    before = json.loads((out / "results.json").read_text())["rows"]
    (out / "results.json").unlink()
    run = quickstart(out, "--methods", "logit_mask", "ascent", "--resume")
    assert run.returncode == 0, run.stderr
    assert json.loads((out / "results.json").read_text())["rows"] == before


@pytest.mark.parametrize(
    "options, message",
    [
        (("--methods", "magic"), "unknown"),
        (("--forget", "11"), r"classes must lie in [0, 10), got [11]"),
        (("--preset", "imagenet"), "imagenet"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    run = quickstart(tmp_path / "out", *options)
    assert run.returncode != 0
    assert message in run.stderr + run.stdout
