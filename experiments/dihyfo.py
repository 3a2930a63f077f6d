"""Hypernetworks that sample unlearned models, beside retraining and its rivals.

    python experiments/dihyfo.py --preset digits --out runs/dihyfo-digits

A zoo of models is trained, hypernetworks learn from it, and then change, or replace,
models that they have never seen. Scenarios: every class, beside all rivals (classes);
many raw samples of every class (samples); prompted against achieved losses (prompts);
pairs of classes, in the zoo and in no zoo (pairs); models that were trained otherwise
than those of the zoo (strangers); choices undone (ablations).
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import dihyfo_world as worlds
import jax
import numpy as np
import study as studies
import tyro
from dihyfo_presets import ABLATIONS, PRESETS, STEPS, VARIANTS, ZOOS
from dihyfo_scenarios import SCENARIOS
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf


@dataclasses.dataclass(frozen=True)
class DiHyFo:
    """Hypernetworks that sample unlearned models."""

    preset: str = "digits"
    """Data, classifiers and recipes: digits, mnist, mnist_wide or cifar10_cnn."""
    seeds: int = 5
    """Training seeds of the models that are to forget, which no zoo has."""
    networks: int = 3
    """Training seeds of the hypernetworks."""
    samples: int = 16
    """Raw samples of every class and model."""
    scenarios: tuple[str, ...] = tuple(
        name for name in SCENARIOS if name != "strangers"
    )
    """What is asked: classes (each of them, beside all rivals), samples (many of each
    class), prompts (doses), pairs (of classes), ablations (choices undone), strangers
    (models of other recipes, of the preset digits)."""
    variants: tuple[str, ...] = tuple(VARIANTS)[:4]
    """Hypernetworks: dihyfo_2, dihyfo_1, dihyfo_2/free, dihyfo_1/free or
    dihyfo_2/free-attention."""
    methods: tuple[str, ...] = ("logit_mask", "finetune", "neggrad_plus")
    """The rivals."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/dihyfo")
    """Where results and checkpoints go."""


def main(config: DiHyFo) -> None:
    """Runs the study and writes what it found."""
    console, begun = Console(), time.perf_counter()
    record = _record(config)
    studies.open_folder(config.out, record, config.resume)
    preset = PRESETS[config.preset]
    console.log(f"{preset.recipe.model}: training {config.seeds} classifiers")
    study = studies.Study(
        "dihyfo", preset.recipe, config.seeds, config.out / "models", console
    )
    world = worlds.World(preset, config.out, study.splits, study.classifier)
    rows = []
    for scenario in SCENARIOS:
        if scenario in config.scenarios:
            console.log(f"scenario {scenario}")
            found = SCENARIOS[scenario](config, study, world)
            if not found:
                console.log(f"{config.preset} has no {scenario}")
            rows += found
            jax.clear_caches()
    for row in rows:
        row["factors"] = {"recipe": study.recipe.model, **(row["factors"] or {})}
    document = hf.report.results_document(
        rows,
        preset=config.preset,
        config=record | {"made_in_seconds": world.seconds},
        seconds=time.perf_counter() - begun,
        repository=Path(__file__).parent,
    )
    # Only the scenario of classes has every reference row.
    hf.report.write(config.out / "results.json", document, references=False)
    console.print(_summary(rows))


def _record(config: DiHyFo) -> dict[str, Any]:
    for name, allowed in (
        ("scenarios", SCENARIOS),
        ("variants", VARIANTS),
    ):
        unknown = sorted(set(getattr(config, name)) - set(allowed))
        if unknown:
            raise SystemExit(f"--{name} {unknown} unknown; there are {list(allowed)}.")
    if config.preset not in PRESETS:
        raise SystemExit(
            f"--preset must be one of {sorted(PRESETS)}, got {config.preset!r}."
        )
    for name in ("networks", "samples"):
        if getattr(config, name) < 1:
            raise SystemExit(f"--{name} must be positive, got {getattr(config, name)}.")
    preset = PRESETS[config.preset]
    record = studies.record_of(config, preset.recipe)
    fields: dict[str, Any] = dataclasses.asdict(preset)
    fields["recipe"] = preset.recipe.record()
    for name in ("course", "free_course"):
        fields[name] = getattr(preset, name)._asdict()
    # What networks are made with, so that no run is gone on with by others.
    made = {
        "variants_are": VARIANTS,
        "steps_are": STEPS,
        "ablations_are": ABLATIONS,
        "zoos_are": ZOOS,
    }
    return json.loads(json.dumps(record | {"study": fields} | made))


def _summary(rows) -> Table:
    """Means over requests and networks."""
    table = Table("scenario", "method", "forget, test", "retain, test", "JS", "R2")
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        factors = row["factors"]
        told = ("steps", "where", "models", "dose")
        told = [f"{name} {factors[name]}" for name in told if name in factors]
        place = (row["scenario"], ", ".join([row["method"], *told]))
        grouped.setdefault(place, []).append(row["metrics"])
    for (scenario, method), metrics in grouped.items():
        cells = []
        for name in (
            "forget_accuracy_test",
            "retain_accuracy_test",
            "js_to_oracle",
            "r2_sweep",
        ):
            found = [one[name]["mean"] for one in metrics if name in one]
            cells.append(f"{np.mean(found):.4f}" if found else "–")
        table.add_row(scenario, method, *cells)
    return table


if __name__ == "__main__":
    main(tyro.cli(DiHyFo))
