"""Which setting is it that helps, where the search changed several at once?

    python experiments/controls.py --preset digits

For each of our methods whose best trial differs from its defaults in what looks like
the cause, that setting alone is changed: put into the defaults, and taken out of the
best trial. All four are measured as trials of ``search.py`` are, at the same models.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import audit
import search
import tuning
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

# What was thought to help, by scenario and method.
SUSPECTS = {
    ("class", "fiun"): ("redistribution",),
    ("class", "pgu"): ("objective",),
    ("subclass", "pgu"): ("objective",),
    ("labels", "pgu"): ("objective",),
    ("random", "pgu"): ("learning_rate", "end_rate"),
}


@dataclasses.dataclass(frozen=True)
class Controls:
    """Change the settings that are thought to help, and no others."""

    preset: Literal["digits"] = "digits"
    """Data set and classifier."""
    seeds: int = 5
    """Models that answer, and retrained ones beside them."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/controls")
    """Where models and results go."""


def main(config: Controls) -> None:
    """Measure every variant, and write what was found."""
    console, begin = Console(), time.perf_counter()
    record = {
        "preset": config.preset,
        "seeds": config.seeds,
        "recipe": audit.RECIPES[config.preset].record(),
    }
    runs.open_folder(config.out, record, config.resume)
    rows = []
    for (scenario, method), suspects in SUSPECTS.items():
        best = hf.recipes.load(method, config.preset, scenario).settings
        alone = {name: best[name] for name in suspects if name in best}
        variants = {
            "the defaults": {},
            "the defaults with it": alone,
            "the best without it": {n: v for n, v in best.items() if n not in alone},
            "the best": dict(best),
        }
        trials = search.Trials(
            search.Search(config.preset, seeds=config.seeds, out=config.out), scenario
        )
        measured = trials.measure(method, variants.values())
        for name, settings in variants.items():
            (point,) = (each for each in measured if each.hyper == settings)
            rows.append(
                hf.report.results_row(
                    method,
                    tuning.by_seed(point.metrics),
                    factors={"it": ", ".join(suspects), "variant": name, **settings},
                    seconds={"init": 0.0, "unlearn": 0.0, "compile": 0.0},
                    **trials.about(method, {}),
                )
            )
    runs.write(config, rows, record, begin, references=False)
    metrics = {"goal": max, "retain_accuracy_probe": min}
    console.print(runs.summary(rows, ("method", "scenario", "variant"), metrics))


if __name__ == "__main__":
    main(tyro.cli(Controls))
