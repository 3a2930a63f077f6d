"""Forget a class from a trained classifier, with proof, in one command.

    python experiments/quickstart.py
    python experiments/quickstart.py --preset mnist --forget 3 5 --out runs/mnist

Train the classifier with several seeds, and make a hypernetwork of a small zoo of
others; prepare every method, forget, retrain, evaluate; make a small federated network
forget the same. Print one table, and leave ``results.json``, checkpoints and a
``report.html`` in the output folder.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import dihyfo_artifacts
import dihyfo_presets
import federated
import numpy as np
import recipes
import study as studies
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import trees
from hyperforget_jax.report.comparison import losses_of

METHODS = ("fiun", "pgu", "dihyfo", *studies.BASELINES)


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Forget a class from a trained classifier, with proof."""

    preset: Literal["digits", "mnist"] = "digits"
    """Data set and classifier. digits is embedded; mnist is read through tfds."""
    forget: tuple[int, ...] = (3,)
    """The class to forget, or several, in one request."""
    seeds: int = 5
    """Training seeds, at least 2. Fewer than five make a smoke run, not a result."""
    methods: tuple[str, ...] = METHODS
    """The methods to compare with retraining, by default all. dihyfo makes its zoo and
    hypernetwork first, which takes longer than everything else."""
    network: bool = True
    """Whether a small federated network is made to forget too, for the report."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/quickstart")
    """Where results, checkpoints and the report go."""


def main(config: Quickstart) -> None:
    """Run the study and write what it found."""
    try:
        hf.forget_labels(config.forget, num_classes=10)
    except ValueError as error:
        runs.refuse(f"--forget: {error}")
    recipe = recipes.RECIPES[config.preset]
    zoo = dihyfo_presets.QUICKSTART[config.preset]
    own = {"dihyfo": zoo.quickstart_record()}
    record = studies.record_of(config, recipe, own)
    if config.network:
        record |= {"federated": federated.SETTINGS}
    runs.open_folder(config.out, record, config.resume)
    with runs.resumable():
        _run(config, recipe, zoo, record)


def _run(config: Quickstart, recipe, zoo, record) -> None:
    console, begin = Console(), time.perf_counter()
    console.log(f"{recipe.dataset}: training {config.seeds} classifiers")
    study = studies.Study("quickstart", recipe, config.seeds, config.out, console)
    methods, seconds = {}, {}
    for name in config.methods:
        if name == "dihyfo":
            methods[name], seconds = dihyfo_artifacts.quickstart(study, zoo)
        else:
            methods[name] = studies.METHODS[name]
    study.forget_classes(config.forget, methods)
    pictures = []
    if config.network:
        console.log("a federated network, trained and made to forget")
        pictures = federated.network_pictures(
            recipe,
            study.splits,
            config.forget,
            config.out / "federated",
            **federated.SETTINGS,
        )

    if seconds:
        record = record | {"made_in_seconds": seconds}
    document = runs.write(config, study.rows, record, begin)
    hf.report.write_report(
        config.out / "report.html",
        document,
        **_report_data(config, study),
        pictures=pictures,
        forgotten=config.forget,
        min_seeds=min(5, config.seeds),
    )
    if config.seeds < 5:
        console.print(f"[bold]A smoke run: {config.seeds} seeds are no result.[/bold]")
    console.print(hf.report.table(study.rows, min_seeds=min(5, config.seeds)))
    console.print(f"Report: {config.out / 'report.html'}", soft_wrap=True)


def _report_data(config: Quickstart, study) -> dict[str, Any]:
    """Collect, by method, losses on forgotten training rows and on test rows of the
    same classes, all seeds together, and accuracies by class, ``[seeds, C]``."""
    request = hf.forget_classes(study.splits.train, config.forget)
    models = {
        name: [trees.take(variables, seed) for seed in range(config.seeds)]
        for name, variables in study.models.items()
        if not name.startswith("ablation/")
    }
    per_class = {
        name: np.stack([one.per_class["test"].accuracy for one in study.found[name]])
        for name in models
    }
    about = study.classifier, models, request, study.splits.test
    return {"losses": losses_of(*about, batch_size=512), "per_class": per_class}


if __name__ == "__main__":
    main(tyro.cli(Quickstart, description=__doc__))
