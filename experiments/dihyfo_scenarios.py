"""What the study of hypernetworks asks: classes, many samples of each, doses, pairs.

Every scenario is ``(config, study, world) -> rows``, without rows where the preset has
nothing of the kind.
"""

from typing import Any

import dihyfo_world as worlds
import jax
import jax.numpy as jnp
import numpy as np
import study as studies
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
from dihyfo_presets import ABLATIONS, STEPS, VARIANTS, ZOOS

import hyperforget_jax as hf
from hyperforget_jax import hypernet


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
                        row_of(
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
                    row_of(
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
            rows.append(
                row_of(study, "pairs", method, request, found, {"where": where})
            )

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
                        row_of(study, "strangers", name, "classes", metrics, factors)
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
                    row_of(
                        study,
                        "ablations",
                        f"ablation/{name}",
                        f"class {label}",
                        found,
                        {"steps": steps},
                    )
                )
    return rows


SCENARIOS = {
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


def row_of(study, scenario, method, request, found, factors, seconds=None):
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
    return hf.report.results_row(
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
