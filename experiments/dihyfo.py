"""Hypernetworks that sample unlearned models, beside retraining and its rivals.

    python experiments/dihyfo.py --preset digits --out runs/dihyfo-digits

A zoo of models is trained, hypernetworks learn from it, and then change, or replace,
models that they have never seen. Scenarios: every class, beside all rivals (classes);
many raw samples of every class (samples); prompted against achieved losses (prompts);
pairs of classes, in the zoo and in no zoo (pairs); choices undone (ablations).
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
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import hypernet

SCENARIOS = ("classes", "samples", "prompts", "pairs", "ablations")
CLASSES = np.eye(10, dtype=bool)
PROMPTS = 20

VARIANTS: dict[str, dict[str, Any]] = {
    "dihyfo_2": {},
    "dihyfo_1": {"prompt": "dihyfo_1"},
    "dihyfo_2/free": {"mode": "free"},
    "dihyfo_1/free": {"mode": "free", "prompt": "dihyfo_1"},
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
    scenarios: tuple[str, ...] = SCENARIOS
    """What is asked: classes, samples, prompts, pairs, ablations."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Hypernetworks: by prompt, in the anchored and in the free mode."""
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
            rows += _RUN[scenario](config, study, world)
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
    preset = worlds.PRESETS[config.preset]
    record = studies.record_of(config, preset.recipe)
    fields: dict[str, Any] = dataclasses.asdict(preset)
    fields["recipe"] = preset.recipe.record()
    for name in ("course", "free_course"):
        fields[name] = getattr(preset, name)._asdict()
    return json.loads(json.dumps(record | {"study": fields}))


def _method(network: hypernet.Hypernetwork, **options) -> studies.Method:
    return studies.Method(lambda c, **hyper: hf.dihyfo(c, network, **hyper), options)


def _classes(config, study, world) -> list[dict[str, Any]]:
    """Every class, with the whole evaluation."""
    methods = {name: studies.METHODS[name] for name in config.methods}
    methods["teacher"] = world.teacher()
    for name in config.variants:
        network = world.trained(_file(name), 0, **VARIANTS[name])
        methods[name] = _method(network)
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
        apart = _nearest_other(ends)
        for number in range(config.networks):
            network = world.trained(_file(name), number, **VARIANTS[name])
            for steps in (1, 20):
                sampler = hypernet.Sampler(steps=steps)
                make = _maker(network, sampler, config.samples)
                seconds = _seconds(make, study)
                for label in range(10):
                    found = []
                    for seed in range(config.seeds):
                        params = make(
                            jax.random.fold_in(jax.random.key(31), seed),
                            _member(seed, study.originals["params"]),
                            jnp.asarray(CLASSES[label]),
                        )
                        found.append(
                            _judge(study, params, label, test, probe)
                            | _novelty(params, ends, apart)
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
            sweep, along = _sweeper(study, network), _follower(study, network)
            for label in range(10):
                found = []
                for seed in range(config.seeds):
                    key = jax.random.fold_in(jax.random.key(32), seed)
                    params = _member(seed, study.originals["params"])
                    begin = float(held.start_loss[seed, label])
                    asked, came = sweep(key, params, begin, label)
                    run = (held.start == seed) & held.masks[:, label]
                    losses = jnp.asarray(held.loss[run][0])
                    reached = along(key, params, losses, jnp.asarray(CLASSES[label]))
                    found.append(
                        {
                            "r2_sweep": _alignment(asked, came),
                            "r2_trajectory": _alignment(
                                losses[:, label], reached[:, label]
                            ),
                            **{f"asked_{i}": float(v) for i, v in enumerate(asked)},
                            **{f"came_{i}": float(v) for i, v in enumerate(came)},
                        }
                    )
                rows.append(
                    _row(
                        study,
                        "prompts",
                        name,
                        f"class {label}",
                        found,
                        {"network": number, "steps": 1},
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
            sampler = hypernet.Sampler(sets=sets)
            makers[f"{name}/{sets}"] = _maker(network, sampler, 4)
    for row, (where, pair) in enumerate(pairs):
        classes = jnp.asarray(masks[row])
        request = "classes " + "+".join(map(str, pair))

        def add(method, params, where=where, request=request, mask=masks[row]):
            found = []
            for seed in range(config.seeds):
                scores = hypernet.score_all(
                    study.classifier, {"params": _member(seed, params)}, test
                )
                found.append(
                    {
                        "forget_accuracy_test": scores.accuracy[:, mask].mean(),
                        "retain_accuracy_test": scores.accuracy[:, ~mask].mean(),
                    }
                )
            rows.append(_row(study, "pairs", method, request, found, {"where": where}))

        add("original", jax.tree.map(lambda leaf: leaf[:, None], _params(study)))
        add("retrain", jax.tree.map(lambda leaf, at=row: leaf[at][:, None], oracles))
        for name, make in makers.items():
            samples = [
                make(
                    jax.random.fold_in(jax.random.key(33), seed),
                    _member(seed, study.originals["params"]),
                    classes,
                )
                for seed in range(config.seeds)
            ]
            add(name, jax.tree.map(lambda *leaves: jnp.stack(leaves), *samples))
    return rows


def _ablations(config, study, world) -> list[dict[str, Any]]:
    """One choice undone at a time, one hypernetwork each."""
    rows = []
    test, probe = study.splits.test, study.splits.probe
    usual = {"anchored": {}, "free": {"mode": "free"}}
    for name, changes in (usual | ABLATIONS).items():
        network = world.trained(f"ablation-{name}", 0, **changes)
        sweep = None if network.recipe.mode == "free" else _sweeper(study, network)
        for steps in (1, 20):
            make = _maker(network, hypernet.Sampler(steps=steps), 8)
            for label in range(10):
                found = []
                for seed in range(config.seeds):
                    key = jax.random.fold_in(jax.random.key(34), seed)
                    params = _member(seed, study.originals["params"])
                    made = make(key, params, jnp.asarray(CLASSES[label]))
                    found.append(_judge(study, made, label, test, probe))
                    if sweep is not None and steps == 1:
                        own = {"params": params}
                        scores = hypernet.class_scores(study.classifier, own, probe)
                        asked, came = sweep(key, params, scores.loss[label], label)
                        found[-1]["r2_sweep"] = _alignment(asked, came)
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
    "ablations": _ablations,
}


def _file(name: str) -> str:
    return name.replace("/", "-")


def _member(index: int, stacked: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def _params(study) -> Any:
    return study.originals["params"]


def _maker(network: hypernet.Hypernetwork, sampler: hypernet.Sampler, count: int):
    """``(key, params, classes) -> params [count, ...]``, jitted."""
    learnt = network.learnt
    assert learnt is not None
    nobody = jnp.zeros(network.num_classes, bool)

    @jax.jit
    def make(learnt, key, params, classes):
        return jax.vmap(
            lambda key: hypernet.forget_set(
                key, network, learnt, params, classes, nobody, None, sampler
            )
        )(jax.random.split(key, count))

    return lambda *arguments: make(learnt, *arguments)


def _seconds(make, study) -> dict[str, float]:
    """Mean seconds a sample, and those of the compilation."""
    arguments = (
        jax.random.key(30),
        _member(0, study.originals["params"]),
        jnp.asarray(CLASSES[0]),
    )
    begun = time.perf_counter()
    made = jax.block_until_ready(make(*arguments))
    compiled = time.perf_counter() - begun
    begun = time.perf_counter()
    jax.block_until_ready(make(*arguments))
    count = jax.tree.leaves(made)[0].shape[0]
    seconds = (time.perf_counter() - begun) / count
    return {"init": 0.0, "unlearn": seconds, "compile": compiled}


def _judge(study, params, label, test, probe) -> dict[str, float]:
    """Raw samples of one model and class, and the best of them by the probe."""
    variables = {"params": params}
    on_test = hypernet.score_all(study.classifier, variables, test)
    on_probe = hypernet.score_all(study.classifier, variables, probe)
    kept = ~CLASSES[label]
    forget, retain = on_test.accuracy[:, label], on_test.accuracy[:, kept].mean(1)
    best = on_probe.loss[:, kept].mean(1).argmin()
    spread = worlds.flat(params).std(0)
    return {
        "forget_accuracy_test": forget.mean(),
        "retain_accuracy_test": retain.mean(),
        "forget_accuracy_worst_sample": forget.max(),
        "retain_accuracy_worst_sample": retain.min(),
        "retain_accuracy_spread": retain.std(ddof=1),
        "share_below_1_percent": (forget <= 0.01).mean(),
        "share_below_2_percent": (forget <= 0.02).mean(),
        "best_forget_accuracy_test": forget[best],
        "best_retain_accuracy_test": retain[best],
        "forget_loss_test": on_test.loss[:, label].mean(),
        "parameter_spread": np.sqrt(np.mean(np.square(spread))),
    }


def _novelty(params, ends, apart) -> dict[str, float]:
    """How far samples are from the nearest model of the zoo, beside how far the models
    of the zoo are from each other. Far below one: copies."""
    samples = worlds.flat(params)
    nearest = np.array(
        [np.sqrt(np.square(ends - own[None]).sum(1).min()) for own in samples]
    )
    return {
        "nearest_distance": nearest.mean(),
        "nearest_distance_ratio": nearest.mean() / apart,
    }


def _nearest_other(ends: np.ndarray) -> float:
    """Mean distance of a model of the zoo to the nearest other, over at most 200."""
    chosen = np.linspace(0, len(ends) - 1, min(len(ends), 200)).astype(int)
    found = []
    for row in chosen:
        squares = np.square(ends - ends[row][None]).sum(1)
        squares[row] = np.inf
        found.append(np.sqrt(squares.min()))
    return float(np.mean(found))


def _sweeper(study, network):
    """``(key, params, first loss, label) -> (asked, came)``: forget losses from a
    model's own to the largest of the zoo, the others by profile."""
    probe, sampler = study.splits.probe, hypernet.Sampler()

    @jax.jit
    def sweep(learnt, key, params, begin, label):
        classes = jnp.arange(network.num_classes) == label
        profile = hypernet.profile(learnt.profiles, classes)
        asked = jnp.linspace(begin, learnt.profiles.largest[label], PROMPTS)

        def one(key, loss):
            wanted = jnp.where(classes, loss, profile)
            made = hypernet.sample_params(
                key, network, learnt, params, wanted, classes, sampler
            )
            scores = hypernet.class_scores(study.classifier, {"params": made}, probe)
            return scores.loss[label]

        return asked, jax.vmap(one)(jax.random.split(key, PROMPTS), asked)

    return lambda *arguments: sweep(network.learnt, *arguments)


def _follower(study, network):
    """``(key, params, losses [K, C], classes) -> achieved losses [K, C]``."""
    probe, sampler = study.splits.probe, hypernet.Sampler()

    @jax.jit
    def follow(learnt, key, params, losses, classes):
        def one(key, wanted):
            made = hypernet.sample_params(
                key, network, learnt, params, wanted, classes, sampler
            )
            return hypernet.class_scores(study.classifier, {"params": made}, probe).loss

        return jax.vmap(one)(jax.random.split(key, losses.shape[0]), losses)

    return lambda *arguments: follow(network.learnt, *arguments)


def _alignment(asked, came) -> float:
    asked, came = np.asarray(asked), np.asarray(came)
    total = np.square(asked - asked.mean()).sum() + 1e-8
    return float(1 - np.square(asked - came).sum() / total)


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
    access = hf.Access(before=everything, unlearn={"classes"})
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
        told = [f"{n} {factors[n]}" for n in ("steps", "where") if n in factors]
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
