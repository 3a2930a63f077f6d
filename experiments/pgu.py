"""Projected-gradient unlearning beside its baselines: classes, rows, wrong labels.

    python experiments/pgu.py --preset digits --out runs/pgu-digits

Each class in turn; four requests for random rows, one after the other, on models that
memorise; a tenth of one class; and rows whose labels were flipped by pairs of classes.
Every method stands beside models retrained without the data, on test rows. Ablations
answer some of the same requests.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import recipes
import study as studies
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

SCENARIOS = ("classes", "rows", "part", "poison")


@dataclasses.dataclass(frozen=True)
class PGU:
    """Projected-gradient unlearning beside its baselines."""

    preset: str = "digits"
    """Data, classifiers and recipes: digits, mnist, mnist_cnn, cifar10_small or
    cifar10_full."""
    seeds: int = 5
    """Training seeds."""
    scenarios: tuple[str, ...] = SCENARIOS
    """What is asked: classes, rows, part, poison."""
    methods: tuple[str, ...] = (
        "logit_mask",
        "finetune",
        "ascent",
        "neggrad_plus",
        "ssd",
    )
    """The baselines."""
    variants: tuple[str, ...] = ("pgu", "pgu/rows", "pgu/published")
    """The presets of projected-gradient unlearning; pgu/rows for all but classes."""
    classes: tuple[int, ...] = tuple(range(10))
    """The classes to forget, each by itself."""
    ablations: bool = True
    """Whether one choice at a time is undone, on one class and on the first rows."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/pgu")
    """Where results and checkpoints go."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a study is made of.

    Attributes:
        classes: recipes whose models forget each class in turn.
        memorising: a recipe whose models know their training rows much better than
            others: rows, parts of classes and wrong labels are forgotten by them.
        share: of the training rows that each of four requests forgets.
        part: how many rows of a class are forgotten.
        flipped: how many rows of each class have the wrong label.
        ablated: the class whose request the ablations answer.
        probe: how many held-out rows the methods may learn from.
        rounds: epochs of the published schedule over a class's data.
    """

    classes: tuple[recipes.Recipe, ...]
    memorising: recipes.Recipe
    share: float = 0.02
    part: int = 50
    flipped: int = 100
    ablated: int = 3
    probe: int = 2_000
    rounds: int = 99


def _cnn(dataset: str, rows: int, steps: int, decay: float) -> recipes.Recipe:
    return recipes.Recipe(
        dataset, (), 2e-3, decay, steps, 128, network="cnn-16-32-64", rows=rows
    )


PRESETS = {
    "digits": Preset(
        (recipes.RECIPES["digits"],),
        recipes.Recipe("digits", (64,), 5e-3, 1e-2, 800, 64, rows=300),
        part=10,
        flipped=6,
    ),
    "mnist": Preset(
        (recipes.Recipe("mnist", (128,), 2e-3, 1.0, 1_000, 128, rows=12_000),),
        recipes.Recipe("mnist", (128,), 2e-3, 1e-2, 1_500, 128, rows=5_000),
    ),
    "mnist_cnn": Preset(
        (_cnn("mnist", 6_000, 600, 1.0),),
        _cnn("mnist", 3_000, 600, 1e-2),
        flipped=60,
        part=30,
        rounds=30,
    ),
    "cifar10_small": Preset(
        (_cnn("cifar10", 12_000, 1_000, 1.0),),
        _cnn("cifar10", 5_000, 1_500, 1e-2),
        rounds=30,
    ),
    "cifar10_full": Preset(
        tuple(
            recipes.Recipe("cifar10", (), 1e-3, 5e-2, 20_000, 256, network=network)
            for network in ("small-vgg", "all-cnn", "resnet-18")
        ),
        recipes.Recipe("cifar10", (), 1e-3, 1e-4, 20_000, 256, network="small-vgg"),
        part=500,
        flipped=500,
        probe=5_000,
    ),
}


def pgu_methods(
    probe: hf.Examples | None, rounds: int = 99
) -> dict[str, studies.Method]:
    """Make our method, with its settings for rows too, and the published one.

    Args:
        probe: held-out rows to learn from; None for requests whose labels are wrong.
        rounds: epochs of the published schedule.
    """

    def published(classifier, **changes):
        config = dataclasses.replace(hf.PGUConfig.published(), **changes)
        return hf.pgu(classifier, config, probe=probe)

    # For wrong labels the published loss is sure of some other label, and its schedule
    # is not stopped; the trainable scales within the subspace are not in it.
    schedule: dict[str, Any] = {"rounds": rounds}
    if probe is None:
        schedule |= {
            "objective": "elsewhere",
            "offset": 0.1,
            "entropy": -0.2,
            "learning_rate": 0.1,
            "end_rate": 0.05,
            "stop": "never",
        }
    return {
        "pgu": studies.Method(_with(probe), {}),
        "pgu/rows": studies.Method(
            lambda classifier: hf.pgu(classifier, hf.PGUConfig.rows(), probe=probe), {}
        ),
        "pgu/published": studies.Method(published, schedule),
    }


def ablations(probe: hf.Examples | None) -> dict[str, studies.Method]:
    """Undo one choice of ours at a time."""
    slow = {"learning_rate": 5e-3, "end_rate": 1e-3}
    changes: dict[str, dict[str, Any]] = {
        "nuclear-0.9": {"rank": "nuclear", "threshold": 0.9},
        "energy-0.95": {"rank": "energy", "threshold": 0.95},
        "drift-0.1": {"rank": "drift", "threshold": 0.1},
        "soft-0.01": {"threshold": 0.01},
        "soft-1": {"threshold": 1.0},
        "unprotected": {"rank": "none"},
        "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "end_rate": 0.02},
        "adam": {"optimizer": "adam", **slow},
        "coordinates": {"optimizer": "coordinates", **slow},
        "frozen-biases": {"biases": False},
        "protected-head": {"free_columns": False},
        "published-loss": {"objective": "published"},
    }
    return {
        f"ablation/{name}": studies.Method(_with(probe), change)
        for name, change in changes.items()
    }


def _with(probe: hf.Examples | None):
    return lambda classifier, **changes: hf.pgu(
        classifier, hf.PGUConfig(**changes), probe=probe
    )


def main(config: PGU) -> None:
    """Run the study and write what it found."""
    console, begin = Console(), time.perf_counter()
    preset, record = _record(config)
    runs.open_folder(config.out, record, config.resume)
    baselines = {name: studies.METHODS[name] for name in config.methods}
    rows = []
    for scenario in config.scenarios:
        rows += _SCENARIOS[scenario](config, preset, baselines, console)
    runs.write(config, rows, record, begin)
    shown = [row for row in rows if not row["method"].startswith("ablation/")]
    metrics = (
        "forget_accuracy_train",
        "retain_accuracy_test",
        "js_to_oracle",
        "mia_auc",
    )
    by = ("scenario", "model", "method")
    console.print(runs.summary(shown, by, dict.fromkeys(metrics)))


def _record(config: PGU):
    runs.check_known("--preset", (config.preset,), PRESETS)
    runs.check_known("--scenarios", config.scenarios, SCENARIOS)
    runs.check_known("--variants", config.variants, pgu_methods(None))
    if config.variants == ("pgu/rows",) and "classes" in config.scenarios:
        runs.refuse("--variants pgu/rows does not answer for classes.")
    preset = PRESETS[config.preset]
    record = studies.record_of(config, preset.memorising)
    record.pop("recipe")
    fields: dict[str, Any] = dataclasses.asdict(preset)
    fields["classes"] = [recipe.record() for recipe in preset.classes]
    fields["memorising"] = preset.memorising.record()
    # What the methods are made with, so that no run is gone on with by another.
    presets = {
        "published": hf.PGUConfig.published(),
        "repaired": hf.PGUConfig(),
        "rows": hf.PGUConfig.rows(),
    }
    methods = pgu_methods(None, preset.rounds) | ablations(None)
    record |= {
        "study": fields,
        "pgu": {name: dataclasses.asdict(each) for name, each in presets.items()},
        "pgu_hyper": {name: dict(method.hyper) for name, method in methods.items()},
    }
    # As JSON gives it back; infinity has no place there.
    return preset, json.loads(json.dumps(record).replace("Infinity", '"inf"'))


def _study(config, recipe, name, console, data=None) -> studies.Study:
    console.log(f"{name}, {recipe.model}: training {config.seeds} classifiers")
    out = config.out / f"{name}-{recipe.model}"
    return studies.Study("pgu", recipe, config.seeds, out, console, data)


def _probe(study: studies.Study, preset: Preset) -> hf.Examples:
    return study.splits.probe.take(jnp.arange(preset.probe))


def _classes(config, preset, baselines, console):
    rows = []
    for recipe in preset.classes:
        study = _study(config, recipe, "classes", console)
        probe = _probe(study, preset)
        ours = pgu_methods(probe, preset.rounds)
        methods = baselines | {
            name: ours[name] for name in config.variants if name != "pgu/rows"
        }
        for label in config.classes:
            chosen = label == preset.ablated
            first = chosen and recipe == preset.classes[0]
            extra = ablations(probe) if first and config.ablations else {}
            study.forget_classes((label,), methods | extra, longer=chosen)
        rows += study.rows
        jax.clear_caches()
    return rows


def _rows(config, preset, baselines, console):
    study = _study(config, preset.memorising, "rows", console)
    probe, left, states = _probe(study, preset), study.splits.train, {}
    methods = _for_rows(config, baselines, probe)
    order = jax.random.permutation(jax.random.key(17), left.y.shape[0])
    count = round(preset.share * left.y.shape[0])
    for number in range(4):
        gone = np.asarray(order[number * count : (number + 1) * count])
        request = hf.forget_rows(left, gone)
        first = number == 0
        study.answer(
            "rows",
            f"rows {number + 1} of 4",
            request,
            methods | (ablations(probe) if first and config.ablations else {}),
            jax.random.fold_in(jax.random.key(18), number),
            states=states,
            longer=first,
        )
        left = request.retain
    jax.clear_caches()
    return study.rows


def _part(config, preset, baselines, console):
    study = _study(config, preset.memorising, "part", console)
    train = study.splits.train
    of_class = np.flatnonzero(np.asarray(train.y) == preset.ablated)[: preset.part]
    study.answer(
        "part",
        f"{preset.part} rows of class {preset.ablated}",
        hf.forget_rows(train, of_class),
        _for_rows(config, baselines, _probe(study, preset)),
        jax.random.key(19),
        longer=False,
    )
    jax.clear_caches()
    return study.rows


def _poison(config, preset, baselines, console):
    clean = preset.memorising.load().train
    poisoned = hf.data.flip_labels(jax.random.key(20), clean, preset.flipped)
    study = _study(config, preset.memorising, "poison", console, poisoned.data)
    study.answer(
        "poison",
        f"{preset.flipped} wrong labels a class",
        hf.forget_rows(poisoned.data, poisoned.rows),
        _for_rows(config, baselines, None),
        jax.random.key(21),
        longer=False,
    )
    jax.clear_caches()
    return study.rows


def _for_rows(config, baselines, probe) -> dict[str, studies.Method]:
    # A mask of classes does nothing for rows.
    methods = {name: m for name, m in baselines.items() if name != "logit_mask"}
    ours = pgu_methods(probe)
    return methods | {name: ours[name] for name in config.variants}


_SCENARIOS = {"classes": _classes, "rows": _rows, "part": _part, "poison": _poison}


if __name__ == "__main__":
    main(tyro.cli(PGU))
