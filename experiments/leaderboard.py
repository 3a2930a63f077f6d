"""Rank every method, all tuned alike, by audits of many models.

    python experiments/leaderboard.py --preset digits
    python experiments/leaderboard.py --preset digits --methods salun --resume

Every method answers with the settings that ``search.py`` chose for the data set and the
kind of request, for as many shadow models as the standard tier of the audits has, each
of a training seed of its own. Retraining from other seeds, the logit mask and the
original models stand beside them. A run that was stopped goes on cell by cell; another
method, or other settings, add their cells alone, to a folder (``--resume``) or to a
record (``--record``). Cells are known by their settings:
after a change of a method's code delete its folders.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Literal

import audit
import audit_cells
import audit_scenes
import graph_cells
import search
import spaces
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import inheritance

METHODS = ("retrain", *spaces.SPACES, "dihyfo", graph_cells.GRAPH_METHOD)
UNTUNED = ("retrain", "dihyfo")


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """Rank every method by audits."""

    preset: Literal["digits", "mnist", "mnist_cnn"] = "digits"
    """Data set and classifier."""
    scenarios: tuple[str, ...] = ("class", "random")
    """What is to be forgotten."""
    methods: tuple[str, ...] = METHODS
    """The methods; those that know of classes alone answer for classes."""
    models: int = audit.TIERS["standard"]
    """Models a side."""
    timed: bool = True
    """Whether requests are timed: do nothing else on the machine then."""
    record: Path | None = None
    """A record to go on from: what it has of other methods is not made again."""
    resume: bool = False
    """Go on with a run that was stopped, or with other methods and scenarios."""
    out: Path = Path("runs/leaderboard")
    """Where models and results go."""


def main(config: Leaderboard) -> None:
    """Make the cells that are missing, and write all there are."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--scenarios", config.scenarios, audit_scenes.SCENARIOS)
    runs.check_known("--methods", config.methods, METHODS)
    if config.models < 5:
        runs.refuse(f"--models must be at least 5, got {config.models}.")
    recipe = audit.RECIPES[config.preset]
    # Before anything is trained.
    wanted = {scenario: recipes_of(config, scenario) for scenario in config.scenarios}
    if not any(wanted.values()):
        runs.refuse("None of these methods answers such requests.")
    settings = {
        "preset": config.preset,
        "models": config.models,
        "recipe": recipe.record(),
        "examples": audit_cells.MOST,
    }
    rows = runs.rows_to_go_on_from(config.record, settings, hf.report.read_audit)
    before = [
        row for row in rows if row["method"] not in wanted.get(row["scenario"], ())
    ]
    for row in before:
        _check_settings(row, config.preset)
    runs.open_folder(config.out, settings, config.resume)
    for row in before:  # Where a run looks for its own.
        about = row["method"], row["settings"]
        runs.keep(audit_cells.path_of(config.out / row["scenario"], *about), row)
    for scenario, methods in wanted.items():
        console.log(f"{scenario}: training shadow models")
        scene = audit_scenes.make(scenario, recipe, config.out / scenario)
        cells = graph_cells.cells(
            recipe, scene, config.models, config.out / scenario, config.timed
        )
        for method, tuned in methods.items():
            row = _row(config, cells, method, tuned)
            console.log(f"{scenario}, {method}: {row['verdict']}")
    rows = []
    for scenario in audit_scenes.SCENARIOS:
        if (config.out / scenario).exists():
            known = [
                name for name in METHODS if is_tuned(name, config.preset, scenario)
            ]
            of_known = dataclasses.replace(config, methods=tuple(known))
            for method, tuned in recipes_of(of_known, scenario).items():
                path = audit_cells.path_of(config.out / scenario, method, tuned)
                if path.exists():
                    rows.append(json.loads(path.read_text()))
    runs.write_audit(config, rows, settings, begin)


def _check_settings(row, preset: str) -> None:
    """Refuse a record's row whose method has other settings by now."""
    scenario, method = row["scenario"], row["method"]
    tuned: Any = {}
    if method not in UNTUNED:
        tuned = recipe_of(method, preset, scenario).settings
    if row.get("settings") != tuned:
        runs.refuse(
            f"The record's {method} of {scenario} has settings of another search: ask "
            "for it, too."
        )


def answers(method: str, scenario: str, preset: str) -> bool:
    """Whether a method answers for such requests to such models."""
    if method == graph_cells.GRAPH_METHOD:
        return scenario == "inherited"
    if method == "dihyfo":
        return scenario in audit_scenes.OF_CLASSES and preset in audit.ZOOS
    return method == "retrain" or search.answers(method, scenario)


def recipes_of(config: Leaderboard, scenario: str) -> dict[str, Any]:
    """Load the settings of every method that answers, by its name; {} for untuned."""
    found: dict[str, Any] = {}
    for method in config.methods:
        if answers(method, scenario, config.preset):
            found[method] = {}
            if method not in UNTUNED:
                found[method] = recipe_of(method, config.preset, scenario).settings
    return found


def is_tuned(method: str, preset: str, scenario: str) -> bool:
    """Whether a method has a recipe, or needs none."""
    if method in UNTUNED:
        return True
    try:
        _load(method, preset, scenario)
    except ValueError:
        return False
    return True


def recipe_of(method: str, preset: str, scenario: str) -> hf.recipes.Recipe:
    """Load what was chosen for a method, or for what it is to single models."""
    try:
        return _load(method, preset, scenario)
    except ValueError as error:
        runs.refuse(f"{error} Run search.py for it first.")


def _load(method: str, preset: str, scenario: str) -> hf.recipes.Recipe:
    tuned_on = "class" if scenario in search.OF_A_CLASS else scenario
    alone = "fiun" if method == graph_cells.GRAPH_METHOD else method
    return hf.recipes.load(alone, preset, tuned_on)


def _row(config: Leaderboard, cells: audit_cells.Cells, method: str, settings):
    scene: Any = cells.scene
    classifier = cells.classifier

    def make() -> hf.Unlearner:
        if method in UNTUNED:
            return audit.unlearner(method, config.preset, scene, config.out)
        recipe = recipe_of(method, config.preset, scene.name)
        if method == graph_cells.GRAPH_METHOD:
            tuned: Any = recipe.settings
            return inheritance.fiun(
                scene.plan.graph, classifier, hf.FIUnConfig(**tuned)
            )
        given = spaces.given(method, scene.name, scene.splits.probe)
        return recipe.unlearner(classifier, **given)

    return cells.row(method, make, settings)


if __name__ == "__main__":
    with runs.resumable():
        main(tyro.cli(Leaderboard))
