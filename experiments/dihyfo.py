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
import jax.numpy as jnp
import numpy as np
import study as studies
import tyro
from dihyfo_measures import (
    CLASSES,
    DOSES,
    alignment,
    dosed,
    follower,
    judge,
    maker,
    member,
    nearest_other,
    novelty,
    params_of,
    sweeper,
    timed,
)
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import hypernet

SCENARIOS = ("classes", "samples", "prompts", "pairs", "strangers", "ablations")

VARIANTS: dict[str, dict[str, Any]] = {
    "dihyfo_2": {},
    "dihyfo_1": {"prompt": "dihyfo_1"},
    "dihyfo_2/free": {"mode": "free"},
    "dihyfo_1/free": {"mode": "free", "prompt": "dihyfo_1"},
    # Tokens see each other, not their mean alone; and it is trained for longer.
    "dihyfo_2/free-attention": {
        "mode": "free",
        "mixer": "attention",
        "course": {"steps": 8_000},
    },
}

# Calls of the denoiser a sample, where one is too few.
STEPS = {"dihyfo_2/free-attention": 20}

# By which networks models of other recipes are asked to forget.
ZOOS: dict[str, dict[str, Any]] = {
    "dihyfo_2": {},
    "dihyfo_2/mixed": {"mixed": True},
}

# Each chunk has an encoder of its own, so that the order of hidden units matters; to a
# network of unit tokens it does not.
CHUNKS = {"tokens": "chunks", "mixer": "attention", "chunk_size": 100}

ABLATIONS: dict[str, dict[str, Any]] = {
    "attention": {"mixer": "attention"},
    "chunks": CHUNKS,
    "v": {"prediction": "v"},
    "eps": {"prediction": "eps"},
    "linear-schedule": {"schedule": "linear"},
    "no-functional-loss": {"course": {"functional": 0.0}},
    "no-class-losses": {"course": {"per_class": 0.0}},
    "no-ema-warmup": {"course": {"ema_warmup": False}},
    "quarter-of-zoo": {"share": 0.25},
    "free-chunks": {"mode": "free", **CHUNKS},
    "free-chunks-unmatched": {"mode": "free", "match": False, **CHUNKS},
    "free-denoising-alone": {"mode": "free", "course": {"functional": 0.0}},
}


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
    preset = worlds.PRESETS[config.preset]
    console.log(f"{preset.recipe.model}: training {config.seeds} classifiers")
    study = studies.Study(
        "dihyfo", preset.recipe, config.seeds, config.out / "models", console
    )
    world = worlds.World(preset, config.out, study.splits, study.classifier)
    rows = []
    for scenario in SCENARIOS:
        if scenario in config.scenarios:
            console.log(f"scenario {scenario}")
            found = _RUN[scenario](config, study, world)
            if not found:
                console.log(f"{config.preset} has no {scenario}")
            rows += found
            jax.clear_caches()
    for row in rows:
        row["factors"] = {"recipe": study.recipe.model, **(row["factors"] or {})}
    document = hf.evaluation.results_document(
        rows,
        preset=config.preset,
        config=record | {"made_in_seconds": world.seconds},
        seconds=time.perf_counter() - begun,
        repository=Path(__file__).parent,
    )
    # Only the scenario of classes has every reference row.
    hf.evaluation.write(config.out / "results.json", document, references=False)
    console.print(_summary(rows))


def _record(config: DiHyFo) -> dict[str, Any]:
    for name, allowed in (
        ("scenarios", SCENARIOS),
        ("variants", VARIANTS),
    ):
        unknown = sorted(set(getattr(config, name)) - set(allowed))
        if unknown:
            raise SystemExit(f"--{name} {unknown} unknown; there are {list(allowed)}.")
    if config.preset not in worlds.PRESETS:
        raise SystemExit(
            f"--preset must be one of {sorted(worlds.PRESETS)}, got {config.preset!r}."
        )
    for name in ("networks", "samples"):
        if getattr(config, name) < 1:
            raise SystemExit(f"--{name} must be positive, got {getattr(config, name)}.")
    preset = worlds.PRESETS[config.preset]
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


def _method(network: hypernet.Hypernetwork, **options) -> studies.Method:
    return studies.Method(lambda c, **hyper: hf.dihyfo(c, network, **hyper), options)


def _classes(config, study, world) -> list[dict[str, Any]]:
    """Every class, with the whole evaluation."""
    methods = {name: studies.METHODS[name] for name in config.methods}
    methods["teacher"] = world.teacher()
    for name in config.variants:
        network = world.trained(_file(name), 0, **VARIANTS[name])
        methods[name] = _method(network, steps=STEPS.get(name, 1))
        if name == "dihyfo_2":
            methods[f"{name}/20 steps"] = _method(network, steps=20)
    for label in range(10):
        study.forget_classes((label,), methods, longer=label == 3)
    return study.rows


def _samples(config, study, world) -> list[dict[str, Any]]:
    """Many samples of every class, raw and the best of them by the probe."""
    test, probe = study.splits.test, study.splits.probe
    rows = []
    for name in config.variants:
        zoo = world.free() if "free" in name else world.anchored()
        ends = worlds.flat(
            jax.tree.map(lambda leaf: leaf[:, -1], zoo.variables["params"])
        )
        apart = nearest_other(ends)
        # The free network has no order of hidden units, the zoo has one.
        units, tokenizer = None, world.network("free").tokenizer
        if "free" in name and tokenizer.permute is not None:
            mean = jax.tree.map(
                lambda leaf: leaf[:, -1].mean(axis=0), zoo.variables["params"]
            )
            units = tokenizer, mean
        for number in range(config.networks):
            network = world.trained(_file(name), number, **VARIANTS[name])
            for steps in (1, 20):
                sampler = hypernet.Sampler(steps=steps)
                make = maker(network, sampler, config.samples)
                seconds = timed(make, study)
                for label in range(10):
                    found = []
                    for seed in range(config.seeds):
                        params = make(
                            jax.random.fold_in(jax.random.key(31), seed),
                            member(seed, study.originals["params"]),
                            jnp.asarray(CLASSES[label]),
                        )
                        found.append(
                            judge(study, params, label, test, probe)
                            | novelty(params, ends, apart, units)
                        )
                    rows.append(
                        _row(
                            study,
                            "samples",
                            name,
                            f"class {label}",
                            found,
                            {"network": number, "steps": steps},
                            seconds,
                        )
                    )
    return rows


def _prompts(config, study, world) -> list[dict[str, Any]]:
    """What was asked for, and what came: by G.pt's prompt alignment (section 2.6 of
    arXiv 2209.12892), on a sweep and on the profiles of runs that no zoo has."""
    held = world.held_out(jax.tree.map(jnp.asarray, study.originals))
    rows = []
    for name in config.variants:
        for number in range(config.networks):
            network = world.trained(_file(name), number, **VARIANTS[name])
            sampler = hypernet.Sampler(steps=STEPS.get(name, 1))
            sweep = sweeper(study, network, sampler)
            along = follower(study, network, sampler)
            for label in range(10):
                found = []
                for seed in range(config.seeds):
                    key = jax.random.fold_in(jax.random.key(32), seed)
                    params = member(seed, study.originals["params"])
                    begin = float(held.start_loss[seed, label])
                    asked, came = sweep(key, params, begin, label)
                    run = (held.start == seed) & held.masks[:, label]
                    losses = jnp.asarray(held.loss[run][0])
                    reached = along(key, params, losses, jnp.asarray(CLASSES[label]))
                    found.append(
                        {
                            "r2_sweep": alignment(asked, came),
                            "r2_trajectory": alignment(
                                losses[:, label], reached[:, label]
                            ),
                        }
                    )
                    if number == 0:  # For pictures.
                        found[-1] |= {f"asked_{i}": v for i, v in enumerate(asked)}
                        found[-1] |= {f"came_{i}": v for i, v in enumerate(came)}
                rows.append(
                    _row(
                        study,
                        "prompts",
                        name,
                        f"class {label}",
                        found,
                        {"network": number, "steps": sampler.steps},
                    )
                )
    return rows


def _pairs(config, study, world) -> list[dict[str, Any]]:
    """Pairs of classes in the zoo, and in no zoo, beside models without both."""
    preset, test = world.preset, study.splits.test
    if not preset.seen:
        return []
    pairs = [("seen", pair) for pair in preset.seen]
    pairs += [("unseen", pair) for pair in preset.unseen]
    masks = np.zeros((len(pairs), 10), bool)
    for row, (_, pair) in enumerate(pairs):
        masks[row, list(pair)] = True
    oracles = _pair_oracles(config, study, world, masks)
    rows = []
    makers = {}
    for name in config.variants:
        network = world.trained(_file(name), 0, **VARIANTS[name])
        # The free mode has one way only.
        for sets in hypernet.SETS if "free" not in name else ("direct",):
            sampler = hypernet.Sampler(steps=STEPS.get(name, 1), sets=sets)
            makers[f"{name}/{sets}"] = maker(network, sampler, 4)
    for row, (where, pair) in enumerate(pairs):
        classes = jnp.asarray(masks[row])
        request = "classes " + "+".join(map(str, pair))

        def add(method, params, where=where, request=request, mask=masks[row]):
            found = []
            for seed in range(config.seeds):
                scores = hypernet.score_all(
                    study.classifier, {"params": member(seed, params)}, test
                )
                found.append(
                    {
                        "forget_accuracy_test": scores.accuracy[:, mask].mean(),
                        "retain_accuracy_test": scores.accuracy[:, ~mask].mean(),
                    }
                )
            rows.append(_row(study, "pairs", method, request, found, {"where": where}))

        add("original", jax.tree.map(lambda leaf: leaf[:, None], params_of(study)))
        add("retrain", jax.tree.map(lambda leaf, at=row: leaf[at][:, None], oracles))
        for name, make in makers.items():
            samples = [
                make(
                    jax.random.fold_in(jax.random.key(33), seed),
                    member(seed, study.originals["params"]),
                    classes,
                )
                for seed in range(config.seeds)
            ]
            add(name, jax.tree.map(lambda *leaves: jnp.stack(leaves), *samples))
    return rows


def _strangers(config, study, world) -> list[dict[str, Any]]:
    """Models of other recipes, asked to forget each class at several doses: by a
    network of the usual zoo, and by one of a zoo that has starts of some of them."""
    if not world.preset.strangers:
        return []
    rows = []
    kinds: dict[str, Any] = {"the zoo's recipe": study.originals}
    for number, kind in enumerate(world.preset.strangers):
        training = kind.training(world.preset.recipe.batch_size)
        kinds[kind.name] = world.starts(1_020 + number, training, config.seeds)
    for name, changes in ZOOS.items():
        for number in range(config.networks):
            network = world.trained(_file(name), number, **changes)
            for kind, variables in kinds.items():
                found = dosed(study, network, jax.random.key(37), variables)
                doses = {"by the probe": found.by_probe()}
                for row, dose in enumerate(DOSES):
                    doses[str(dose)] = np.full_like(doses["by the probe"], row)
                for dose, chosen in doses.items():
                    factors = {"network": number, "dose": dose, "models": kind}
                    metrics = found.metrics(chosen)
                    rows.append(
                        _row(study, "strangers", name, "classes", metrics, factors)
                    )
    return rows


def _ablations(config, study, world) -> list[dict[str, Any]]:
    """One choice undone at a time, one hypernetwork each."""
    rows = []
    test, probe = study.splits.test, study.splits.probe
    usual = {"anchored": {}, "free": {"mode": "free"}}
    for name, changes in (usual | ABLATIONS).items():
        network = world.trained(f"ablation-{name}", 0, **changes)
        sweep = None
        if network.recipe.mode == "anchored":
            sweep = sweeper(study, network, hypernet.Sampler())
        for steps in (1, 20):
            make = maker(network, hypernet.Sampler(steps=steps), 8)
            for label in range(10):
                found = []
                for seed in range(config.seeds):
                    key = jax.random.fold_in(jax.random.key(34), seed)
                    params = member(seed, study.originals["params"])
                    made = make(key, params, jnp.asarray(CLASSES[label]))
                    found.append(judge(study, made, label, test, probe))
                    if sweep is not None and steps == 1:
                        own = {"params": params}
                        scores = hypernet.class_scores(study.classifier, own, probe)
                        asked, came = sweep(key, params, scores.loss[label], label)
                        found[-1]["r2_sweep"] = alignment(asked, came)
                rows.append(
                    _row(
                        study,
                        "ablations",
                        f"ablation/{name}",
                        f"class {label}",
                        found,
                        {"steps": steps},
                    )
                )
    return rows


_RUN = {
    "classes": _classes,
    "samples": _samples,
    "prompts": _prompts,
    "pairs": _pairs,
    "strangers": _strangers,
    "ablations": _ablations,
}


def _file(name: str) -> str:
    return name.replace("/", "-")


def _pair_oracles(config, study, world, masks):
    """Params of models trained without a pair, ``[pairs, seeds, ...]``."""
    data, start = study.splits.train, world.preset.start()
    weights = np.where(masks[:, np.asarray(data.y)], 0, np.asarray(data.weight))
    population = hf.fit_population(
        jax.random.key(35),
        study.classifier,
        data,
        start.optimizer,
        start.steps,
        members=len(masks) * config.seeds,
        weights=jnp.asarray(np.repeat(weights, config.seeds, axis=0), jnp.int32),
        batch_size=start.batch_size,
        directory=config.out / "pair-oracles",
    )
    return jax.tree.map(
        lambda leaf: leaf.reshape(len(masks), config.seeds, *leaf.shape[1:]),
        population.variables["params"],
    )


def _row(study, scenario, method, request, found, factors, seconds=None):
    nothing = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}
    everything = {"retain", "forget", "classes", "probe"}
    # The best of many samples is chosen by the probe, and so may be the dose.
    by_probe = any(name.startswith("best_") for name in found[0])
    by_probe |= factors.get("dose") == "by the probe"
    chosen = {"probe"} if by_probe else set()
    access = hf.Access(before=everything, unlearn={"classes"} | chosen)
    if method == "original":
        access = hf.identity(study.classifier).access
    if method == "retrain":
        access = study.recipe.retrain(study.classifier).access
    return hf.evaluation.results_row(
        method,
        [{name: float(value) for name, value in one.items()} for one in found],
        dataset=study.recipe.dataset,
        model=study.recipe.model,
        scenario=scenario,
        request=request,
        access=access,
        seconds=seconds or nothing,
        factors=factors,
    )


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
