"""Audit every method: can models that forgot be distinguished from retrained ones?

    python experiments/audit.py --preset digits --tier standard
    python experiments/audit.py --preset digits --check --scenarios class --methods fiun

For every scenario train shadow models, originals and retrained ones, once; let every
method answer for all of them; judge. Leave ``results.json``, a page, and for every cell
a folder that ``hyperforget audit`` reads. A run that was stopped goes on cell by cell.
"""

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any, Literal

import audit_cells
import audit_scenes
import dihyfo_artifacts
import dihyfo_presets
import graph_cells
import numpy as np
import recipes
import study as studies
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

RECIPES = {
    "digits": recipes.RECIPES["digits"],
    "mnist": dataclasses.replace(
        dihyfo_presets.PRESETS["mnist"].recipe, rows=12_000, held_out=2_000
    ),
    "mnist_cnn": recipes.Recipe(
        "mnist", (), 2e-3, 0.1, 400, 64, "cnn-16-32-64", rows=6_000, held_out=1_000
    ),
}
ZOOS = {
    name: dataclasses.replace(dihyfo_presets.QUICKSTART[zoo], recipe=RECIPES[name])
    for name, zoo in (("digits", "digits"), ("mnist", "mnist"))
}
TIERS = {"smoke": 16, "standard": 64, "full": 128}
CLASS_ONLY = ("logit_mask", "dihyfo")
METHODS = ("retrain", *studies.BASELINES, "fiun", "pgu", "dihyfo")


@dataclasses.dataclass(frozen=True)
class Audit:
    """Audit every method in every scenario."""

    preset: Literal["digits", "mnist", "mnist_cnn"] = "digits"
    """Data set and classifier."""
    tier: Literal["smoke", "standard", "full"] = "standard"
    """How many models a side: 16, 64 or 128. Fewer than 32 have no forgetting score."""
    models: int | None = None
    """Another number of models a side than the tier's."""
    scenarios: tuple[str, ...] = ("class", "random", "memorised", "backdoor")
    """What is to be forgotten: these, subclass, sequence, inherited or labels."""
    methods: tuple[str, ...] = METHODS
    """The methods. logit_mask and dihyfo answer for classes alone; retrain, from seeds
    of its own, is the control that is not to be accused."""
    check: bool = False
    """Compare with the committed record, within its intervals, and fail if it differs:
    by the record's own number of models."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/audit")
    """Where models, results and the page go."""


def main(config: Audit) -> None:
    """Run the audits and write what they found."""
    console, begin = Console(), time.perf_counter()
    recipe = RECIPES[config.preset]
    runs.check_known("--scenarios", config.scenarios, audit_scenes.SCENARIOS)
    runs.check_known("--methods", config.methods, METHODS)
    committed = Path(__file__).parent / "results" / f"audit-{config.preset}.json"
    record: dict[str, Any] = {}
    if config.check:
        if config.resume:
            runs.refuse("--check makes a cell anew: leave out --resume.")
        if not committed.exists():
            runs.refuse(f"--check: there is no record {committed.name}.")
        record = hf.report.read_audit(committed)
        config = dataclasses.replace(config, models=record["config"]["models"])
    models = config.models or TIERS[config.tier]
    if models < 5:
        runs.refuse(f"--models must be at least 5, got {models}.")
    if not cells_of(config):
        runs.refuse("logit_mask and dihyfo answer for classes alone.")
    settings = {
        "preset": config.preset,
        "models": models,
        "recipe": recipe.record(),
        "hyper": {name: dict(method.hyper) for name, method in studies.METHODS.items()},
        "examples": audit_cells.MOST,
        "sources": sources(),
    }
    runs.open_folder(config.out, settings, config.resume)
    rows = []
    wanted = cells_of(config)
    for scenario in dict.fromkeys(scenario for scenario, _ in wanted):
        console.log(f"{scenario}: training shadow models")
        scene = audit_scenes.make(scenario, recipe, config.out / scenario)
        cells = graph_cells.cells(recipe, scene, models, config.out / scenario)
        for method in (method for of, method in wanted if of == scenario):
            row = cells.row(
                method,
                lambda name=method, scene=scene: unlearner(
                    name, config.preset, scene, config.out
                ),
            )
            console.log(f"{scenario}, {method}: {row['verdict']}")
            rows.append(row)
    document = runs.write_audit(config, rows, settings, begin)
    hf.report.write_audit_page(config.out / "report.html", document)
    console.print(f"Report: {config.out / 'report.html'}", soft_wrap=True)
    if config.check and (differences := compared(rows, record["rows"])):
        raise SystemExit("\n".join(differences))


def cells_of(config: Audit) -> list[tuple[str, str]]:
    """List scenarios with the methods that answer for them."""
    return [
        (scenario, method)
        for scenario in config.scenarios
        for method in config.methods
        if scenario in audit_scenes.OF_CLASSES or method not in CLASS_ONLY
        if method != "dihyfo" or config.preset in ZOOS
    ]


def unlearner(
    method: str, preset: str, scene: audit_scenes.Scene, out: Path
) -> hf.Unlearner:
    """Make a method with its defaults; a hypernetwork is trained in ``out``."""
    recipe = RECIPES[preset]
    if method == "retrain":
        return recipe.retrain(recipe.classifier)
    if method == "pgu":
        return hf.pgu(recipe.classifier, probe=scene.splits.probe)
    if method != "dihyfo":
        return studies.METHODS[method](recipe.classifier)
    artifacts = dihyfo_artifacts.Artifacts(
        ZOOS[preset], out / "dihyfo", scene.splits, recipe.classifier
    )
    trained = artifacts.trained("dihyfo_2", dihyfo_presets.Variant())
    return hf.dihyfo(recipe.classifier, *trained)


def sources() -> str:
    """Compute a digest of the code: rows of other code are not gone on with."""
    here = Path(__file__).parent
    files = [*Path(hf.__file__).parent.rglob("*.py"), *here.glob("*.py")]
    text = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(text).hexdigest()


def compared(rows, recorded) -> list[str]:
    """Say where rows are farther from recorded ones than their intervals explain.

    Four standard errors of the difference, since there are many audits; and a fiftieth,
    for values whose spread is nought.
    """
    before = {(row["scenario"], row["method"]): row for row in recorded}
    found = []
    for row in rows:
        place = (row["scenario"], row["method"])
        if place not in before:
            found.append(f"{place}: is not in the record.")
            continue
        own, old = (
            {each["audit"]: each for each in of["audits"]}
            for of in (row, before[place])
        )
        if own.keys() != old.keys():
            found.append(
                f"{place}: has other audits, {sorted(own.keys() ^ old.keys())}."
            )
        for name in own.keys() & old.keys():
            pair = own[name], old[name]
            if any(each["interval"] is None for each in pair):
                continue
            halves = [(high - low) / 2 for low, high in (e["interval"] for e in pair)]
            most = max(0.02, 4 * np.hypot(*halves) / 1.96)
            gap = abs(pair[0]["value"] - pair[1]["value"])
            if gap > most:
                found.append(
                    f"{place}: {name} is {gap} from the record, beyond {most}."
                )
        if row["accused_by"] != before[place]["accused_by"]:
            found.append(
                f"{place}: accused by {row['accused_by']}, and in the record by "
                f"{before[place]['accused_by']}."
            )
    return found


if __name__ == "__main__":
    with runs.resumable():
        main(tyro.cli(Audit))
