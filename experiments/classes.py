"""Forget each class in turn, with every method, and print the worst class too.

    python experiments/classes.py --out runs/classes

One results file holds every class; the worst class stands beside the mean in the table
that is printed, since the mean hides it.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import recipes
import study as studies
import tyro
from rich.console import Console

import runs


@dataclasses.dataclass(frozen=True)
class Classes:
    """Forget each class in turn."""

    preset: Literal["digits", "mnist"] = "digits"
    """Data set and classifier."""
    seeds: int = 5
    """Training seeds."""
    methods: tuple[str, ...] = studies.BASELINES
    """The methods to compare with retraining."""
    classes: tuple[int, ...] = tuple(range(10))
    """The classes to forget, each by itself."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/classes")
    """Where results and checkpoints go."""


def main(config: Classes) -> None:
    """Run the study and write what it found."""
    console, begin = Console(), time.perf_counter()
    recipe = recipes.RECIPES[config.preset]
    record = studies.record_of(config, recipe)
    runs.open_folder(config.out, record, config.resume)
    study = studies.Study("classes", recipe, config.seeds, config.out, console)
    methods = {name: studies.METHODS[name] for name in config.methods}
    for label in config.classes:
        study.forget_classes((label,), methods)
    runs.write(config, study.rows, record, begin)
    worst = {"forget_accuracy_test": max, "retain_accuracy_test": min}
    console.print(runs.summary(study.rows, ("method",), worst))


if __name__ == "__main__":
    main(tyro.cli(Classes))
