"""Rank every method, all tuned alike, by audits of many models.

    python experiments/leaderboard.py --preset digits
    python experiments/leaderboard.py --preset digits --methods salun --resume

Every method answers with the settings that ``search.py`` chose for the data set and the
kind of request, for as many shadow models as the standard tier of the audits has, each
of a training seed of its own. Retraining from other seeds, the logit mask and the
original models stand beside them. A run that was stopped goes on cell by cell; another
method, or other settings, add their cells alone.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import audit
import audit_cells
import audit_scenes
import search
import spaces
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

METHODS = ("retrain", *spaces.SPACES, "dihyfo")
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
    resume: bool = False
    """Go on with a run that was stopped, or with other methods and scenarios."""
    out: Path = Path("runs/leaderboard")
    """Where models and results go."""


def main(config: Leaderboard) -> None:
    """Make the cells that are missing, and write all there are."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--scenarios", config.scenarios, audit_scenes.SCENARIOS)
    runs.check_known("--methods", config.methods, METHODS)
    recipe = audit.RECIPES[config.preset]
    settings = {
        "preset": config.preset,
        "models": config.models,
        "recipe": recipe.record(),
        "examples": audit_cells.MOST,
    }
    runs.open_folder(config.out, settings, config.resume)
    rows = []
    for scenario in config.scenarios:
        console.log(f"{scenario}: training shadow models")
        scene = audit_scenes.make(scenario, recipe, config.out / scenario)
        cells = audit_cells.Cells(
            recipe, scene, config.models, config.out / scenario, config.timed
        )
        for method in config.methods:
            if answers(method, scenario, config.preset):
                row = _row(config, cells, method)
                console.log(f"{scenario}, {method}: {row['verdict']}")
                rows.append(row)
    document = hf.report.audit_document(
        rows,
        preset=config.preset,
        tier="standard",
        config=settings,
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    hf.report.write_audit(config.out / "results.json", document)


def answers(method: str, scenario: str, preset: str) -> bool:
    """Whether a method answers for such requests to such models."""
    if method == "dihyfo":
        return scenario in audit_scenes.OF_CLASSES and preset in audit.ZOOS
    return method == "retrain" or search.answers(method, scenario)


def _row(config: Leaderboard, cells: audit_cells.Cells, method: str):
    scene, classifier = cells.scene, cells.classifier
    if method in UNTUNED:
        return cells.row(
            method,
            lambda: audit.unlearner(method, config.preset, scene, config.out),
        )
    tuned_on = "class" if scene.in_turn else scene.name
    recipe = hf.recipes.load(method, config.preset, tuned_on)
    given = spaces.given(method, scene.name, scene.splits.probe)
    return cells.row(
        method, lambda: recipe.unlearner(classifier, **given), recipe.settings
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Leaderboard))
    except KeyboardInterrupt:
        raise SystemExit(
            "Stopped. The same command with --resume goes on from here."
        ) from None
