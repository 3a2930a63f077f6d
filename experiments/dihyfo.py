"""Hypernetworks that sample unlearned models, beside retraining and baselines.

    python experiments/dihyfo.py --preset digits --out runs/dihyfo-digits

A zoo of models is trained, hypernetworks learn from it, and then edit models that they
have never seen, or generate new ones. Scenarios: every class, beside all baselines
(classes); many raw samples of every class (samples); prompted against achieved losses
(prompts); pairs of classes, in the zoo and in no zoo (pairs); models that were trained
otherwise than those of the zoo (strangers); choices undone (ablations).
"""

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import dihyfo_metrics as metrics
import jax
import jax.numpy as jnp
import numpy as np
import study as studies
import tyro
from dihyfo_artifacts import Artifacts, Trained, flat, last
from dihyfo_metrics import CLASSES, SCALES
from dihyfo_presets import ABLATIONS, PRESETS, VARIANTS, ZOOS
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import hypernet, trees


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
    scenarios: tuple[str, ...] = ("classes", "samples", "prompts", "pairs", "ablations")
    """What is asked: classes (each of them, beside all baselines), samples (many of
    each class), prompts (losses), pairs (of classes), ablations (choices undone),
    strangers (models of other trainings, of the preset digits)."""
    variants: tuple[str, ...] = tuple(VARIANTS)[:4]
    """Hypernetworks: dihyfo_2, dihyfo_1, dihyfo_2/free, dihyfo_1/free or
    dihyfo_2/free-attention."""
    protect: tuple[float, ...] = ()
    """More rows of dihyfo_2, by hf.dihyfo(protect=), of classes and samples."""
    methods: tuple[str, ...] = ("logit_mask", "finetune", "neggrad_plus")
    """The baselines."""
    classes: tuple[int, ...] = tuple(range(10))
    """The classes to forget in the scenarios classes and samples."""
    zoos: tuple[str, ...] = tuple(ZOOS)
    """From which zoos hypernetworks learn that strangers are given to."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/dihyfo")
    """Where results and checkpoints go."""


def main(config: DiHyFo) -> None:
    """Run the study and write its results."""
    console, started = Console(), time.perf_counter()
    record = _record(config)
    runs.open_folder(config.out, record, config.resume)
    preset = PRESETS[config.preset]
    console.log(f"{preset.recipe.model}: training {config.seeds} classifiers")
    study = studies.Study(
        "dihyfo", preset.recipe, config.seeds, config.out / "models", console
    )
    artifacts = Artifacts(preset, config.out, study.splits, study.classifier)
    rows = []
    for name, scenario in SCENARIOS.items():
        if name in config.scenarios:
            console.log(f"scenario {name}")
            rows += scenario(config, study, artifacts)
            jax.clear_caches()
    for row in rows:
        row["factors"] = {"recipe": study.recipe.model, **(row["factors"] or {})}
    record |= {"made_in_seconds": artifacts.seconds}
    # Only the scenario of classes has every reference row.
    runs.write(config, rows, record, started, references=False)
    by = "scenario", "method", "steps", "where", "models", "dose"
    names = "forget_accuracy_test", "retain_accuracy_test", "js_to_oracle", "r2_sweep"
    console.print(runs.summary(rows, by, dict.fromkeys(names)))


def _record(config: DiHyFo) -> dict[str, Any]:
    runs.check_known("--scenarios", config.scenarios, SCENARIOS)
    runs.check_known("--variants", config.variants, VARIANTS)
    runs.check_known("--zoos", config.zoos, ZOOS)
    runs.check_known("--preset", (config.preset,), PRESETS)
    for name in ("networks", "samples"):
        if getattr(config, name) < 1:
            runs.refuse(f"--{name} must be positive, got {getattr(config, name)}.")
    preset = PRESETS[config.preset]
    record = studies.record_of(config, preset.recipe)
    fields: dict[str, Any] = dataclasses.asdict(preset)
    fields["recipe"] = preset.recipe.record()
    record["study"] = fields
    # How networks are made, so that no run is gone on with by others.
    for name, variants in (
        ("variants_are", VARIANTS),
        ("ablations_are", ABLATIONS),
        ("zoos_are", ZOOS),
    ):
        record[name] = {key: dataclasses.asdict(own) for key, own in variants.items()}
    return json.loads(json.dumps(record))


def _classes(config, study, artifacts) -> list[dict[str, Any]]:
    """Forget every class, with the whole evaluation."""
    methods = {name: studies.METHODS[name] for name in config.methods}
    if config.variants:
        methods["teacher"] = artifacts.teacher()
    for name in config.variants:
        trained = artifacts.trained(name, VARIANTS[name])
        methods[name] = _method(trained, VARIANTS[name].steps)
        if name == "dihyfo_2":
            methods[f"{name}/20 steps"] = _method(trained, 20)
            for factor in config.protect:
                methods[f"{name}/protect {factor:g}"] = _method(trained, 1, factor)
    for label in config.classes:
        study.forget_classes((label,), methods, longer=label == 3)
    return study.rows


def _method(trained: Trained, steps: int, protect: float = 0) -> studies.Method:
    hyper = {"steps": steps} | ({"protect": protect} if protect else {})
    return studies.Method(
        lambda classifier, **hyper: hf.dihyfo(classifier, *trained, **hyper), hyper
    )


def _samples(config, study, artifacts) -> list[dict[str, Any]]:
    """Sample many models without every class, raw and the best of them by the probe."""
    rows = []
    for name in config.variants:
        network = artifacts.network(VARIANTS[name].architecture)
        zoo = artifacts.zoo(network.edits)
        ends = flat(last(zoo))
        # Generated models have no order of hidden units, the zoo has one.
        units = None
        if not network.edits and network.tokenizer.permute is not None:
            mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), last(zoo))
            units = network.tokenizer, mean
        reference = ends, metrics.nearest_other(ends), units
        for number in range(config.networks):
            trained = artifacts.trained(name, VARIANTS[name], number)
            ways = [{"steps": 1}, {"steps": 20}]
            if name == "dihyfo_2":
                ways += [{"steps": 1, "protect": factor} for factor in config.protect]
            for way in ways:
                rows += _sample_rows(
                    config,
                    study,
                    trained,
                    "samples",
                    name,
                    {"network": number, **way},
                    config.samples,
                    31,
                    reference,
                )
    return rows


def _sample_rows(
    config, study, trained, scenario, method, factors, count, seed, reference=None
):
    """Sample models without every class; one row a class."""
    sampler, originals = hypernet.Sampler(factors["steps"]), study.originals["params"]
    seconds = None
    if reference is not None and not factors.get("protect"):
        first = trees.take(originals, 0)
        seconds = metrics.timed(trained, sampler, count, first)

    def metrics_of(label, number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        source = trees.take(originals, number)
        classes, protect = CLASSES[label], factors.get("protect")
        if protect:
            sampled = metrics.unlearn(
                study, trained, {"protect": protect}, count, key, source, classes
            )
        else:
            sampled = metrics.sample(*trained, sampler, count, key, source, classes)
        found = metrics.sample_metrics(study, sampled, label)
        if reference is not None:
            return found | metrics.novelty(sampled, *reference)
        if trained.network.edits and sampler.steps == 1:
            own = hypernet.class_scores(
                study.classifier, {"params": source}, study.splits.probe
            )
            lowest = own.loss[label]
            pair = metrics.sweep(study, trained, sampler, key, source, lowest, label)
            found["r2_sweep"] = metrics.alignment(*pair)
        return found

    return _rows_by_class(
        config.classes, study, scenario, method, factors, metrics_of, seconds
    )


def _rows_by_class(
    classes, study, scenario, method, factors, metrics_of, seconds=None
) -> list[dict[str, Any]]:
    """Make a row a class, of ``metrics_of(label, seed)``."""
    return [
        row_of(
            study,
            scenario,
            method,
            f"class {label}",
            [metrics_of(label, seed) for seed in range(study.seeds)],
            factors,
            seconds,
        )
        for label in classes
    ]


def _prompts(config, study, artifacts) -> list[dict[str, Any]]:
    """Compare losses asked for and achieved: on a sweep, and on the profiles of runs
    that no zoo has."""
    held = artifacts.held_out(jax.tree.map(jnp.asarray, study.originals))
    rows = []
    for name in config.variants:
        for number in range(config.networks):
            trained = artifacts.trained(name, VARIANTS[name], number)
            sampler = hypernet.Sampler(VARIANTS[name].steps)
            rows += _rows_by_class(
                range(10),
                study,
                "prompts",
                name,
                {"network": number, "steps": sampler.steps},
                functools.partial(
                    _prompt_metrics, study, held, trained, sampler, number == 0
                ),
            )
    return rows


def _prompt_metrics(study, held, trained, sampler, in_full, label, seed):
    key = jax.random.fold_in(jax.random.key(32), seed)
    source = trees.take(study.originals["params"], seed)
    asked, achieved = metrics.sweep(
        study, trained, sampler, key, source, held.start_loss[seed, label], label
    )
    run = (held.start == seed) & held.masks[:, label]
    wanted = jnp.asarray(held.loss[run][0])
    reached = metrics.follow(
        study, trained, sampler, key, source, wanted, CLASSES[label]
    )
    found = {
        "r2_sweep": metrics.alignment(asked, achieved),
        "r2_trajectory": metrics.alignment(wanted[:, label], reached[:, label]),
    }
    if in_full:  # For pictures.
        found |= {f"asked_{i}": value for i, value in enumerate(asked)}
        found |= {f"came_{i}": value for i, value in enumerate(achieved)}
    return found


def _pairs(config, study, artifacts) -> list[dict[str, Any]]:
    """Forget pairs of classes, in the zoo and in no zoo, beside models without both."""
    preset = artifacts.preset
    if not preset.seen:
        return []
    pairs = [("seen", pair) for pair in preset.seen]
    pairs += [("unseen", pair) for pair in preset.unseen]
    masks = np.zeros((len(pairs), 10), bool)
    for row, (_, pair) in enumerate(pairs):
        masks[row, list(pair)] = True
    originals = study.originals["params"]
    retrained = _without_pairs(config, study, masks)
    sample = {}
    for name in config.variants:
        trained, steps = artifacts.trained(name, VARIANTS[name]), VARIANTS[name].steps
        # The generate mode has one way only.
        for sets in hypernet.SETS if trained.network.edits else ("direct",):
            sampler = hypernet.Sampler(steps, sets=sets)
            sample[f"{name}/{sets}"] = functools.partial(
                metrics.sample, *trained, sampler, 4
            )
    rows = []
    for row, (where, pair) in enumerate(pairs):
        samples = {
            "original": jax.tree.map(lambda leaf: leaf[:, None], originals),
            "retrain": jax.tree.map(lambda leaf, at=row: leaf[at][:, None], retrained),
        }
        for name, draw in sample.items():
            samples[name] = trees.stack(
                [
                    draw(
                        jax.random.fold_in(jax.random.key(33), seed),
                        trees.take(originals, seed),
                        masks[row],
                    )
                    for seed in range(config.seeds)
                ]
            )
        for name, params in samples.items():
            found = []
            for seed in range(config.seeds):
                own = {"params": trees.take(params, seed)}
                accuracy = hypernet.score_all(
                    study.classifier, own, study.splits.test
                ).accuracy
                found.append(
                    {
                        "forget_accuracy_test": accuracy[:, masks[row]].mean(),
                        "retain_accuracy_test": accuracy[:, ~masks[row]].mean(),
                    }
                )
            request = "classes " + "+".join(map(str, pair))
            rows.append(row_of(study, "pairs", name, request, found, {"where": where}))
    return rows


def _without_pairs(config, study, masks) -> Any:
    """Fit models without a pair; return their params, ``[pairs, seeds, ...]``."""
    data = study.splits.train
    weights = np.where(masks[:, np.asarray(data.y)], 0, np.asarray(data.weight))
    population = study.recipe.train(
        jax.random.key(35),
        data,
        len(masks) * config.seeds,
        config.out / "without-pairs",
        jnp.asarray(np.repeat(weights, config.seeds, axis=0), jnp.int32),
    )
    return jax.tree.map(
        lambda leaf: leaf.reshape(len(masks), config.seeds, *leaf.shape[1:]),
        population.variables["params"],
    )


def _out_of_distribution(config, study, artifacts) -> list[dict[str, Any]]:
    """Forget each class in models of other trainings, at several scales: by a network
    of the usual zoo, and by one of a zoo that has starts of some of them."""
    if not artifacts.preset.out_of_distribution:
        return []
    kinds: dict[str, Any] = {"the zoo's recipe": study.originals}
    for number, kind in enumerate(artifacts.preset.out_of_distribution):
        fit = kind.config(artifacts.preset.recipe.batch_size)
        kinds[kind.name] = artifacts.starts(1_020 + number, fit, config.seeds)
    rows = []
    for name in config.zoos:
        for number in range(config.networks):
            trained = artifacts.trained(name, ZOOS[name], number)
            for kind, variables in kinds.items():
                found = metrics.scaled(study, trained, jax.random.key(37), variables)
                factors = {"network": number, "dose": "by margins", "models": kind}
                own = metrics.by_the_method(
                    study, trained, jax.random.key(37), variables
                )
                rows.append(row_of(study, "strangers", name, "classes", own, factors))
                choices = {"by the probe": found.by_probe()}
                for row, scale in enumerate(SCALES):
                    choices[str(scale)] = np.full_like(choices["by the probe"], row)
                for scale, chosen in choices.items():
                    # Records call the scale a dose.
                    factors = {"network": number, "dose": scale, "models": kind}
                    own = found.metrics(chosen)
                    rows.append(
                        row_of(study, "strangers", name, "classes", own, factors)
                    )
    return rows


def _ablations(config, study, artifacts) -> list[dict[str, Any]]:
    """Undo one choice at a time, with one hypernetwork each."""
    rows = []
    for name, variant in ABLATIONS.items():
        trained = artifacts.trained(f"ablation-{name}", variant)
        for steps in (1, 20):
            rows += _sample_rows(
                config,
                study,
                trained,
                "ablations",
                f"ablation/{name}",
                {"steps": steps},
                8,
                34,
            )
    return rows


SCENARIOS = {
    "classes": _classes,
    "samples": _samples,
    "prompts": _prompts,
    "pairs": _pairs,
    "strangers": _out_of_distribution,
    "ablations": _ablations,
}


def row_of(study, scenario, method, request, found, factors, seconds=None):
    """Make a row of a record of the metrics of every seed."""
    everything = {"retain", "forget", "classes", "probe"}
    # The best of many samples is chosen by the probe, and so may be the scale.
    by_probe = any(name.startswith("best_") for name in found[0])
    by_probe |= factors.get("dose") in ("by the probe", "by margins")
    chosen = {"probe"} if by_probe else set()
    init = {"retain", "forget", "classes"} if factors.get("protect") else set()
    access = hf.Access(before=everything, init=init, unlearn={"classes"} | chosen)
    if method == "original":
        access = hf.identity(study.classifier).access
    if method == "retrain":
        access = study.recipe.retrain(study.classifier).access
    return hf.report.results_row(
        method,
        [{name: float(value) for name, value in one.items()} for one in found],
        dataset=study.recipe.dataset,
        model=study.recipe.model,
        scenario=scenario,
        request=request,
        access=access,
        seconds=seconds or studies.NOT_TIMED,
        factors=factors,
    )


if __name__ == "__main__":
    main(tyro.cli(DiHyFo))
