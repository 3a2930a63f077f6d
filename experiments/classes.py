"""Forgets each class in turn, with every method, and prints the worst class too.

    python experiments/classes.py --out runs/classes

One results file holds every class; the worst class is a row of its own in the table
that is printed, since a mean over classes hides it.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import recipes
import study as studies
import tyro
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf


@dataclasses.dataclass(frozen=True)
class Classes:
    """Forget each class in turn."""

    preset: Literal["digits", "mnist"] = "digits"
    """Data set and classifier."""
    seeds: int = 5
    """Training seeds."""
    methods: tuple[str, ...] = studies.BASELINES
    """The methods to compare with retraining."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/classes")
    """Where results and checkpoints go."""


def main(config: Classes) -> None:
    """Runs the study and writes what it found."""
    console, begun = Console(), time.perf_counter()
    recipe = recipes.RECIPES[config.preset]
    record = studies.record_of(config, recipe)
    studies.open_folder(config.out, record, config.resume)
    study = studies.Study("classes", recipe, config.seeds, config.out, console)
    methods = {name: studies.METHODS[name] for name in config.methods}
    for label in range(10):
        study.forget_classes((label,), methods)
    document = hf.report.results_document(
        study.rows,
        preset=config.preset,
        config=record,
        seconds=time.perf_counter() - begun,
        repository=Path(__file__).parent,
    )
    hf.report.write(config.out / "results.json", document)
    console.print(_summary(study.rows))


def _summary(rows) -> Table:
    """Means over classes and seeds, and the worst class by its mean over seeds."""
    table = Table("method", "forget accuracy, test", "worst", "retain", "worst")
    by_method: dict[str, list] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    for method, of_method in by_method.items():
        cells = [method]
        for name, worst in (
            ("forget_accuracy_test", max),
            ("retain_accuracy_test", min),
        ):
            found = [
                (row["metrics"][name]["mean"], row["request"]) for row in of_method
            ]
            mean = sum(value for value, _ in found) / len(found)
            value, request = worst(found)
            cells += [f"{mean:.4f}", f"{value:.4f} ({request})"]
        table.add_row(*cells)
    return table


if __name__ == "__main__":
    main(tyro.cli(Classes))
