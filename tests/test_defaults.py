"""The methods' defaults are what the committed tuning chose."""

import dataclasses
import inspect
import json
import pathlib

import chex
import jax
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import scripts, toys

PATH = (
    pathlib.Path(__file__).parents[1] / "experiments" / "results" / "tune-digits.json"
)

MAKE = {
    "ascent": lambda c, rate, **rest: hf.ascent(c, optimizer=optax.adam(rate), **rest),
    "finetune": lambda c, rate, **rest: hf.finetune(
        c, optimizer=optax.adam(rate), **rest
    ),
    "neggrad_plus": lambda c, rate, **rest: hf.neggrad_plus(
        c, optimizer=optax.adam(rate), **rest
    ),
}


@pytest.mark.parametrize("method", MAKE)
def test_defaults_are_what_was_chosen(method):
    document = hf.report.read(PATH, references=False)
    (chosen,) = (
        row["factors"]
        for row in document["rows"]
        if row["method"] == method and row["factors"]["chosen"]
    )
    hyper = {k: v for k, v in chosen.items() if k not in ("place", "chosen")}
    data, classifier = toys.points(), toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    request = hf.forget_classes(data, [1])

    def answer(unlearner):
        state = unlearner.init(jax.random.key(1), variables, data)
        return jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)

    chex.assert_trees_all_equal(
        answer(MAKE[method](classifier, **hyper)),
        answer(getattr(hf, method)(classifier)),
    )


@pytest.mark.parametrize("preset", ["repaired", "head_reassign"])
def test_presets_of_fiun_are_what_was_tuned(preset):
    """The best score to three digits, then the least divergence from retraining."""
    # The names of the record.
    recorded = {"repaired": "fiun/repaired", "head_reassign": "fiun/folded"}[preset]
    path = PATH.with_name("tune-fiun-mnist.json")
    rank = {}
    for row in hf.report.read(path, references=False)["rows"]:
        if row["method"] == recorded:
            about = dict(row["factors"])
            score = about.pop("score") if preset == "repaired" else 0.0
            hyper = {
                "redistribution" if k == "fold" else k: v
                for k, v in about.items()
                if k not in ("place", "chosen", "score")
            }
            apart = row["metrics"]["js_to_own_oracle"]["mean"]
            found = dataclasses.replace(hf.fisher.PRESETS[preset], **hyper)
            rank[found] = (-round(score, 3), round(apart, 4))
    assert rank[hf.fisher.PRESETS[preset]] == min(rank.values())


def test_the_defaults_of_pgu_are_trials_of_the_search():
    """No search chose them: `pgu.md` says how they did beside drawn settings."""
    path = PATH.with_name("search-digits.json")
    places = {
        row["scenario"]: row["factors"]["place"]
        for row in hf.report.read(path, references=False)["rows"]
        if row["method"] == "pgu" and set(row["factors"]) == {"place", "chosen"}
    }
    assert places.pop("memorised") == 0 and places.pop("class") == 1
    assert max(places.values()) < 8


def test_zoos_are_taught_at_the_temperature_of_the_trials():
    """As near to retrained models as any, and nearer than before at no cost."""
    path = PATH.with_name("tune-dihyfo-digits.json")
    found = {
        (row["method"], json.dumps(row["factors"])): row["metrics"]
        for row in hf.report.read(path, references=False)["rows"]
    }
    default = inspect.signature(hypernet.edit_zoo).parameters["temperature"].default
    assert default == hypernet.Distillation(toys.perceptron()).temperature
    (presets,) = scripts.load("dihyfo_presets")
    assert presets.QUICKSTART["digits"].temperature == default
    for method in ("teacher", "dihyfo"):
        before, now = (
            found[method, json.dumps({"temperature": temperature})]
            for temperature in (1.0, default)
        )
        pairs = zip(now["goal"]["values"], before["goal"]["values"], strict=True)
        assert all(new < 0.5 * old for new, old in pairs)
        # A tenth of a point is one row in a thousand.
        kept = [each["retain_accuracy_probe"]["mean"] for each in (now, before)]
        assert kept[0] >= kept[1] - 1e-3


def test_committed_results_are_clean_and_seeded():
    paths = sorted(PATH.parent.glob("*.json"))
    assert PATH in paths
    for path in paths:
        if "tier" in json.loads(path.read_text()):  # Of audits: over models.
            document = hf.report.read_audit(path)
            assert document["dirty"] is False, path
            assert all(row["a_side"] >= 64 for row in document["rows"]), path
            continue
        document = hf.report.read(path, references=False)
        assert document["dirty"] is False, path
        # Timings are repeated over runs of one machine, everything else over seeds; a
        # claim that is audited is about many models, each of its own seed. Jobs that
        # were killed have one seed, and kills at random points.
        seeded = [row for row in document["rows"] if row["over"] == "training_seed"]
        # Models of half an hour each, of which their page says how few they are.
        least = 2 if path.stem.startswith("residual") else 5
        assert all(row["n"] >= least for row in seeded), path
        audited = all(row["over"] == "claim" for row in document["rows"])
        others = "benchmark" in path.name or path.stem == "endurance"
        assert seeded or audited or others, path


@pytest.mark.parametrize("world", ["mnist_cnn", "wine", "breast_cancer"])
def test_no_default_loses_ten_points_without_a_warning(world):
    path = PATH.with_name(f"off-tuning-{world}.json")
    rows = hf.report.read(path, references=False)["rows"]
    names = {row["method"].rpartition(".")[2] for row in rows}
    # All but those that have none.
    assert set(hf.rivals.__all__) - names == {"eu_k", "sisa"}
    for row in rows:
        if row["metrics"]["points_lost"]["mean"] > 10:
            assert row["factors"]["warned"], (row["method"], row["scenario"])
