"""Forget a class from a trained classifier, with proof, in one command.

    python experiments/quickstart.py
    python experiments/quickstart.py --preset mnist --forget 3 5 --out runs/mnist

Trains the classifier with several seeds, prepares every method, forgets, retrains the
oracles, evaluates, prints one table, and leaves ``results.json``, checkpoints and a
``report.html`` in the output folder.
"""

import dataclasses
import time
from pathlib import Path
from typing import Literal

import recipes
import study as studies
import tyro
from rich.console import Console

import hyperforget_jax as hf


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Forget a class from a trained classifier, with proof."""

    preset: Literal["digits", "mnist"] = "digits"
    """Data set and classifier. digits is embedded; mnist is read through tfds."""
    forget: tuple[int, ...] = (3,)
    """The class to forget, or several, in one request."""
    seeds: int = 5
    """Training seeds. Fewer than five make a smoke run, not a result."""
    methods: tuple[str, ...] = tuple(studies.METHODS)
    """The methods to compare with retraining."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/quickstart")
    """Where results, checkpoints and the report go."""


def main(config: Quickstart) -> None:
    """Runs the study and writes what it found."""
    console = Console()
    try:
        hf.forget_labels(config.forget, num_classes=10)
    except ValueError as error:
        raise SystemExit(f"--forget: {error}") from error
    begun = time.perf_counter()
    recipe = recipes.RECIPES[config.preset]
    record = studies.record_of(config, recipe)
    studies.open_folder(config.out, record, config.resume)
    console.log(f"{recipe.dataset}: training {config.seeds} classifiers")
    study = studies.Study("quickstart", recipe, config.seeds, config.out, console)
    methods = {name: studies.METHODS[name] for name in config.methods}
    study.forget_classes(config.forget, methods)

    document = hf.report.results_document(
        study.rows,
        preset=config.preset,
        config=record,
        seconds=time.perf_counter() - begun,
        repository=Path(__file__).parent,
    )
    hf.report.write(config.out / "results.json", document)
    hf.report.write_report(
        config.out / "report.html",
        document,
        losses=study.losses,
        per_class=study.per_class,
        forgotten=config.forget,
        min_seeds=min(5, config.seeds),
    )
    if config.seeds < 5:
        console.print(f"[bold]A smoke run: {config.seeds} seeds are no result.[/bold]")
    console.print(hf.report.table(study.rows, min_seeds=min(5, config.seeds)))
    console.print(f"Report: {config.out / 'report.html'}")


if __name__ == "__main__":
    main(tyro.cli(Quickstart))
