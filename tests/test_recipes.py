"""Recipes are what the committed search chose, the same number of trials for all."""

import pathlib

import jax
import optax
import pytest

import hyperforget_jax as hf
from tests import scripts, toys

RESULTS = pathlib.Path(__file__).parents[1] / "experiments" / "results"
PRESETS = sorted(
    path.stem.removeprefix("search-") for path in RESULTS.glob("search-*.json")
)
board, spaces = scripts.load("leaderboard", "spaces")


def trials(preset):
    """Rows of the search by scenario and method."""
    found = {}
    path = RESULTS / f"search-{preset}.json"
    for row in hf.report.read(path, references=False)["rows"]:
        found.setdefault((row["scenario"], row["method"]), []).append(row)
    return found


def settings_of(row):
    return {k: v for k, v in row["factors"].items() if k not in ("place", "chosen")}


def test_every_method_has_a_maker_and_a_space():
    assert set(hf.recipes.MAKERS) == set(spaces.SPACES)
    # SISA has no models of others to answer for.
    assert set(hf.rivals.__all__) - set(spaces.SPACES) == {"sisa"}


@pytest.mark.parametrize("preset", PRESETS)
def test_recipes_are_the_best_of_equally_many_trials(preset):
    document = hf.report.read(RESULTS / f"search-{preset}.json", references=False)
    count = document["config"]["trials"]
    assert count >= 16
    for (scenario, method), rows in trials(preset).items():
        assert len(rows) == (count if spaces.SPACES[method] else 1)
        goals = [row["metrics"]["goal"]["mean"] for row in rows]
        (chosen,) = (row for row in rows if row["factors"]["chosen"])
        assert chosen["metrics"]["goal"]["mean"] == min(goals)
        recipe = hf.recipes.load(method, preset, scenario)
        assert recipe.settings == settings_of(chosen)
        drawn = spaces.draws(method, scenario, count)
        assert all(settings_of(row) in drawn for row in rows)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_recipe_makes_its_method(preset):
    classifier, probe = toys.perceptron(), toys.points()
    for scenario, method in trials(preset):
        recipe = hf.recipes.load(method, preset, scenario)
        given = spaces.given(method, scenario, probe)
        unlearner = recipe.unlearner(classifier, **given)
        assert isinstance(unlearner, hf.Unlearner)


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("leaderboard-*.json")), ids=lambda path: path.stem
)
def test_no_row_of_a_leaderboard_has_settings_of_its_own(path):
    document = hf.report.read_audit(path)
    for row in document["rows"]:
        if row["method"] in board.UNTUNED:
            assert row["settings"] == {}
        else:
            about = (row["method"], document["preset"], row["scenario"])
            assert row["settings"] == board.recipe_of(*about).settings


def test_it_is_known_what_was_not_searched():
    assert board.is_tuned("salun", "digits", "class")
    assert board.is_tuned("retrain", "no_such_preset", "class")
    assert not board.is_tuned("salun", "no_such_preset", "class")
    # As the graph's method is fiun's, and a sequence's a class's.
    assert board.is_tuned("inheritance.fiun", "mnist", "inherited")


def test_controls_change_the_suspect_and_nothing_else():
    (controls,) = scripts.load("controls")
    path = RESULTS / "controls-digits.json"
    found = {}
    for row in hf.report.read(path, references=False)["rows"]:
        settings = dict(row["factors"])
        about = row["scenario"], row["method"]
        assert settings.pop("it").split(", ") == [*controls.SUSPECTS[about]]
        found.setdefault(about, {})[settings.pop("variant")] = settings
    assert found.keys() == controls.SUSPECTS.keys()
    for (scenario, method), of in found.items():
        best = hf.recipes.load(method, "digits", scenario).settings
        assert of["the defaults"] == {} and of["the best"] == best
        alone, without = of["the defaults with it"], of["the best without it"]
        assert alone.keys() == set(controls.SUSPECTS[scenario, method])
        assert alone.keys().isdisjoint(without) and alone | without == best


def test_a_recipe_is_the_method_with_its_settings():
    recipe = hf.recipes.Recipe(
        "salun", "digits", "class", {"learning_rate": 0.01, "share": 0.5, "steps": 3}
    )
    data, classifier = toys.points(), toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    request = hf.forget_classes(data, [1])

    def answer(unlearner):
        state = unlearner.init(jax.random.key(1), variables, data)
        return unlearner.unlearn(jax.random.key(2), state, request)[0].variables

    own = hf.rivals.salun(classifier, share=0.5, optimizer=optax.adam(0.01), steps=3)
    assert all(
        (a == b).all()
        for a, b in zip(
            jax.tree.leaves(answer(recipe.unlearner(classifier))),
            jax.tree.leaves(answer(own)),
            strict=True,
        )
    )


def test_a_recipe_that_needs_held_out_examples_says_so():
    recipe = hf.recipes.load("regun", "digits")
    with pytest.raises(TypeError, match="probe="):
        recipe.unlearner(toys.perceptron())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("salun", "letters"), "dataset must be one of .*digits.*, got 'letters'"),
        (("salun", "digits", "rain"), "scenario of 'digits' must be one of .*class"),
        (("salun", "digits", "clas"), "got 'clas'; did you mean class or subclass?"),
        (("sailing", "digits"), "method must be one of .*salun.*, got 'sailing'"),
        (("dihyfo", "digits"), "no recipe: its hypernetwork is trained first"),
        (("logit_mask", "digits", "random"), "'logit_mask' .* only of .'class'"),
    ],
)
def test_what_was_never_searched_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        hf.recipes.load(*arguments)
