"""The random search: its goal by hand, its draws, and a small one gone on with."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import logit, softmax
from scipy.stats import wasserstein_distance

import hyperforget_jax as hf
from tests import scripts, toys

search, spaces, board = scripts.load("search", "spaces", "leaderboard")


def test_the_goal_is_a_distance_between_distributions_over_models():
    classifier, data = toys.softmax_regression(), toys.points()
    models, retrained = (
        jax.vmap(classifier.init, (0, None))(
            jax.random.split(jax.random.key(seed), 3), data.x
        )
        for seed in (0, 1)
    )
    rows = {"forgotten": (0, 8), "held_out": (8, 14), "retained": (14, 30)}
    judged = {name: data.take(jnp.arange(*ends)) for name, ends in rows.items()}
    found = search.distances(classifier, models, retrained, judged)

    def softmaxes(name):
        return (
            softmax(jax.vmap(lambda v: classifier.apply(v, judged[name].x))(of), -1)
            for of in (models, retrained)
        )

    def gap(name):
        y, weight = np.asarray(judged[name].y), np.asarray(judged[name].weight)
        own, others = (
            logit(p[:, np.arange(y.size), y].astype(np.float64))
            for p in softmaxes(name)
        )
        each = [wasserstein_distance(own[:, n], others[:, n]) for n in range(y.size)]
        return np.average(each, weights=weight)

    def divergence(name):
        own, others = softmaxes(name)
        weight = np.asarray(judged[name].weight)
        return np.mean(
            [
                np.average(jensenshannon(a, b, axis=1) ** 2, weights=weight)
                for a in own
                for b in others
            ]
        )

    forgotten = (gap("forgotten") + gap("held_out")) / 2
    # Single precision, of distances of about one and divergences of about a tenth.
    goal = (forgotten + gap("retained")) / 2
    np.testing.assert_allclose(np.mean(found["goal"]), goal, rtol=1e-4)
    np.testing.assert_allclose(
        np.mean(found["js_retained"]), divergence("retained"), atol=1e-5
    )


def test_a_model_that_is_not_finite_is_as_far_as_can_be():
    classifier, data = toys.softmax_regression(), toys.points()
    models = jax.vmap(classifier.init, (0, None))(
        jax.random.split(jax.random.key(0), 2), data.x
    )
    ruined = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), models)
    judged = {"forgotten": data.take(jnp.arange(5)), "retained": data}
    found = search.distances(classifier, ruined, models, judged)
    assert found["goal"].max() == search.FARTHEST
    assert found["js_retained"][1] == pytest.approx(np.log(2))
    own = search.distances(classifier, models, models, judged)
    np.testing.assert_array_equal(own["goal"], 0)


def test_draws_are_the_same_in_every_run_and_the_defaults_are_among_them():
    first = spaces.draws("salun", "class", 16)
    assert first == spaces.draws("salun", "class", 16)
    assert len(first) == 16
    assert first[0] == {}
    assert first[:8] == spaces.draws("salun", "class", 8)
    assert first[1:] != spaces.draws("salun", "random", 16)[1:]
    share = spaces.SPACES["salun"]["share"]
    assert all(share.low <= point["share"] <= share.high for point in first[1:])
    choice = spaces.SPACES["pgu"]["objective"]
    drawn = [point["objective"] for point in spaces.draws("pgu", "class", 16)[1:]]
    assert set(drawn) == set(choice.values)
    assert spaces.draws("damp", "class", 16) == [{}]
    assert {} not in spaces.draws("eu_k", "class", 16)


def test_who_answers():
    assert not search.answers("damp", "random")
    assert search.answers("damp", "class")
    assert board.answers("retrain", "random", "digits")
    assert board.answers("dihyfo", "class", "digits")
    assert not board.answers("dihyfo", "random", "digits")
    assert not board.answers("dihyfo", "class", "mnist_cnn")
    assert board.answers("damp", "inherited", "digits")
    assert board.answers("inheritance.fiun", "inherited", "digits")
    assert not board.answers("inheritance.fiun", "class", "digits")


def test_a_graph_answers_by_the_settings_for_a_class():
    chosen = hf.recipes.load("salun", "digits", "class")
    assert board.recipe_of("salun", "digits", "inherited") == chosen
    chosen = hf.recipes.load("fiun", "digits", "class")
    assert board.recipe_of("inheritance.fiun", "digits", "inherited") == chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "mnist_cnn", "--methods", "damp"), "Run search.py for it first"),
        (("--scenarios", "random", "--methods", "damp"), "None of these methods"),
        (("--models", "3"), "--models must be at least 5, got 3"),
        (("--methods", "nothing"), "--methods must be among .*; got nothing"),
    ],
)
def test_a_leaderboard_that_cannot_be_is_refused_at_once(tmp_path, options, message):
    out = tmp_path / "board"
    run = scripts.run("leaderboard", "--out", str(out), *options)
    assert run.returncode != 0
    assert re.search(message, run.stderr)
    assert not out.exists()


@pytest.mark.slow
def test_a_search_and_a_leaderboard_go_on_cell_by_cell(tmp_path):
    """Two methods with two trials, then a third one; and their cells of audits."""
    options = ("--scenarios", "class", "--trials", "2", "--seeds", "2")
    out = ("--out", str(tmp_path / "search"))
    first = scripts.run("search", *options, *out, "--methods", "eu_k", "damp")
    assert first.returncode == 0, first.stderr
    cell = tmp_path / "search" / "class" / "eu_k.json"
    before = cell.stat().st_mtime_ns
    refused = scripts.run("search", *options, *out)
    assert refused.returncode != 0
    assert "--resume" in refused.stderr
    more = ("--methods", "salun", "--resume")
    assert scripts.run("search", *options, *out, *more).returncode == 0
    assert cell.stat().st_mtime_ns == before
    document = hf.report.read(tmp_path / "search" / "results.json", references=False)
    counts = {}
    for row in document["rows"]:
        counts[row["method"]] = counts.get(row["method"], 0) + 1
    assert counts == {"eu_k": 2, "damp": 1, "salun": 2}
    chosen = json.loads((tmp_path / "search" / "recipes.json").read_text())
    assert set(chosen["recipes"]["class"]) == set(counts)
    # From the record alone, where there is no folder.
    record = ("--record", str(tmp_path / "search" / "results.json"))
    out = ("--out", str(tmp_path / "another"))
    refused = scripts.run("search", *out, *record, "--methods", "salun")
    assert refused.returncode == 2 and "was made with trials=2" in refused.stderr
    assert not (tmp_path / "another").exists()
    run = scripts.run("search", *options, *out, *record, "--methods", "salun")
    assert run.returncode == 0, run.stderr
    again = hf.report.read(tmp_path / "another/results.json", references=False)
    names = [name for name in document["rows"][0] if name != "seconds"]
    for row, other in zip(again["rows"], document["rows"], strict=True):
        assert all(row[name] == other[name] for name in names)

    out = ("--out", str(tmp_path / "board"), "--models", "5", "--scenarios", "class")
    first = scripts.run("leaderboard", *out, "--methods", "damp")
    assert first.returncode == 0, first.stderr
    row = tmp_path / "board" / "class" / "damp" / "row.json"
    before = row.stat().st_mtime_ns
    more = ("--methods", "logit_mask", "--resume")
    assert scripts.run("leaderboard", *out, *more).returncode == 0
    assert row.stat().st_mtime_ns == before
    document = hf.report.read_audit(tmp_path / "board" / "results.json")
    rows = {row["method"]: row for row in document["rows"]}
    assert set(rows) == {"damp", "logit_mask"}
    assert all(row["seconds"]["unlearn"] > 0 for row in rows.values())
    assert all(row["stored_bytes"] > 0 for row in rows.values())
    record = ("--record", str(tmp_path / "board" / "results.json"))
    options = ("--models", "5", "--scenarios", "class", "--methods", "logit_mask")
    out = ("--out", str(tmp_path / "another board"))
    run = scripts.run("leaderboard", *out, *options, *record)
    assert run.returncode == 0, run.stderr
    again = hf.report.read_audit(tmp_path / "another board/results.json")
    found = {row["method"]: row for row in again["rows"]}
    assert found["damp"] == rows["damp"]
    assert found["logit_mask"]["audits"] == rows["logit_mask"]["audits"]
    # What a folder has already is newer than the record.
    cell = tmp_path / "another board" / "class" / "damp" / "row.json"
    before = cell.stat().st_mtime_ns
    run = scripts.run("leaderboard", *out, *options, *record, "--resume")
    assert run.returncode == 0 and cell.stat().st_mtime_ns == before
    options = ("--models", "6", *options[2:])
    out = ("--out", str(tmp_path / "third"))
    refused = scripts.run("leaderboard", *out, *options, *record)
    assert refused.returncode == 2 and "was made with models=5" in refused.stderr
    assert not (tmp_path / "third").exists()
