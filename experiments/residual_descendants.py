"""A residual network and ten models that descend from it forget a class together.

    python experiments/residual_descendants.py --originals runs/residual

The roots are the originals of ``residual.py``, and the roots without the class its
retrained models. Ten descendants of each are trained on from it, every one on a tenth
of the rows. A request that the root forgets a class is answered by
``inheritance.fiun`` for all eleven; beside it stand retrained roots whose descendants
are trained on without the class. What that takes is measured over a few steps and
multiplied. Models are judged on the test split.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recipes
import residual
import study as studies
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import inheritance, trees

ROOT, ARCHITECTURE = "root", "default"
# How descendants are trained on: by Adam, with a cosine schedule.
STEPS, RATE = 100, 1e-3


@dataclasses.dataclass(frozen=True)
class Descendants:
    """A residual network and models that descend from it forget a class."""

    originals: Path
    """The folder of a run of residual.py that was asked for a class."""
    preset: Literal["cifar10_resnet8"] = "cifar10_resnet8"
    """Data set and classifier."""
    seeds: int = 2
    """Training seeds, as many as that run has."""
    descendants: int = 10
    """Of every root."""
    resume: bool = False
    """Go on with a run that was stopped, or measure the time again."""
    out: Path = Path("runs/residual-descendants")
    """Where models and results go."""


def main(config: Descendants) -> None:
    """Train, ask, judge and write."""
    console, begin = Console(), time.perf_counter()
    recipe = recipes.RECIPES[config.preset]
    record = {
        "preset": config.preset,
        "seeds": config.seeds,
        "descendants": config.descendants,
        "steps": STEPS,
        "learning_rate": RATE,
        "recipe": recipe.record(),
    }
    label = residual.LABELS[0]
    _check_originals(config, record["recipe"], label)
    runs.open_folder(config.out, record, config.resume)
    splits = recipe.load()
    asked = hf.forget_classes(splits.train, (label,))
    shards = _shards(splits.train, config.descendants)
    edges = [inheritance.Edge(ROOT, name) for name in shards if name != ROOT]
    plan = inheritance.Plan.create(splits.train, shards, edges)

    def networks(kind: str, data: hf.Examples, folder: str, key) -> list[Any]:
        """Every seed's root and descendants, stacked."""
        roots = recipe.train(key, data, config.seeds, config.originals / folder)
        return [
            _trained_on(config, recipe, plan, data, roots.variables, kind, seed)
            for seed in range(config.seeds)
        ]

    originals = networks("original", splits.train, "originals", jax.random.key(0))
    key = residual.retrained_key(residual.key_of_class(label))
    retrained = networks("retrain", asked.retain, f"class-{label}/retrained", key)

    unlearner = inheritance.fiun(plan.graph, recipe.classifier)
    requests = {ROOT: plan.request_at(asked, ROOT)}
    behind = plan.data(splits.train)
    answers, seconds = [], {"init": 0.0, "unlearn": 0.0, "compile": 0.0}

    def call(phase: str, function, *arguments):
        """Call it compiled, and count the seconds of a seed; compiling is apart."""
        compiled, taken = studies.timed(jax.jit(function).lower(*arguments).compile)
        seconds["compile"] += taken / config.seeds
        found, taken = studies.timed(compiled, *arguments)
        seconds[phase] += taken / config.seeds
        return found

    for seed, models in enumerate(originals):
        console.log(f"seed {seed}: FIUn prepares, and answers")
        keys = jax.random.split(jax.random.fold_in(jax.random.key(8), seed))
        stacked = {ARCHITECTURE: models}
        state = call("init", unlearner.init, keys[0], stacked, behind)
        state, _ = call("unlearn", unlearner.unlearn, keys[1], state, requests)
        answers.append(state.variables[ARCHITECTURE])

    console.log("a few steps of retraining")
    again = _retraining(config, recipe, asked.retain, trees.take(originals[0], 0))
    judge, rows = _judge_by(recipe.classifier, splits.test, asked), []
    for name, models, access, took in (
        ("original", originals, None, None),
        ("retrain", retrained, None, {"init": 0.0, "unlearn": again, "compile": 0.0}),
        ("inheritance.fiun", answers, unlearner.access, seconds),
    ):
        judged = [judge(of) for of in models]
        if name == "inheritance.fiun":
            judged = [one | {"ratio": again / seconds["unlearn"]} for one in judged]
        rows.append(
            hf.report.results_row(
                name,
                judged,
                dataset=recipe.dataset,
                model=recipe.model,
                scenario="descendants",
                request=f"class {label}",
                access=access,
                seconds=took,
            )
        )
    runs.write(config, rows, record, begin, references=False)
    shown = ("forget_accuracy_test", "retain_accuracy_test")
    console.print(runs.summary(rows, ("method",), dict.fromkeys(shown)))
    console.print(f"a request took {again / seconds['unlearn']:.0f} times less")


def _check_originals(config: Descendants, recipe, label: int) -> None:
    """Refuse a folder without the models: to train them is for residual.py."""
    path = config.originals / "config.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    wanted = {"preset": config.preset, "seeds": config.seeds, "recipe": recipe}
    wanted = json.loads(json.dumps(wanted))
    there = (config.originals / f"class-{label}/retrained").exists()
    if not there or any(stored.get(name) != value for name, value in wanted.items()):
        runs.refuse(
            f"--originals {config.originals} holds no run of {config.seeds} seeds that "
            f"was asked for a class: run residual.py --seeds {config.seeds} "
            "--scenarios class first."
        )


def _shards(data: hf.Examples, descendants: int) -> dict[str, np.ndarray]:
    """The rows of every model: all for the root, and a share for each descendant."""
    number = data.y.shape[0]
    order = np.random.default_rng(0).permutation(number)
    shards = {ROOT: np.ones(number, bool)}
    for index, shard in enumerate(np.array_split(order, descendants)):
        shards[f"descendant{index}"] = np.isin(np.arange(number), shard)
    return shards


def _optimizer() -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(RATE, STEPS))


def _trained_on(config, recipe, plan, data, roots, kind: str, seed: int) -> Any:
    """A root and its descendants, stacked."""
    root, shards = trees.take(roots, seed), plan.rows[1:]
    starts = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (len(shards), *leaf.shape)), root
    )
    descendants = hf.fit_population(
        jax.random.fold_in(jax.random.key(7), seed),
        recipe.classifier,
        data,
        _optimizer(),
        STEPS,
        members=len(shards),
        weights=jnp.asarray(shards, jnp.int32) * data.weight[None],
        starts=starts,
        batch_size=recipe.batch_size,
        augment=recipe.augment,
        chunk_size=recipe.chunk_size,
        directory=config.out / f"{kind}-{seed}",
    ).variables
    return jax.tree.map(
        lambda one, others: jnp.concatenate([one[None], others]), root, descendants
    )


def _retraining(config, recipe, data: hf.Examples, root) -> float:
    """Extrapolate what the root and all its descendants take to be trained again."""
    seconds = 0.0
    for optimizer, steps in (
        (recipe.optimizer(recipe.steps), recipe.steps),
        (_optimizer(), STEPS * config.descendants),
    ):
        few = min(residual.TIMED_STEPS, recipe.steps)
        fit = jax.jit(
            lambda key, start, data, optimizer=optimizer, few=few: hf.fit(
                key,
                recipe.classifier,
                data,
                optimizer,
                few,
                start=start,
                batch_size=recipe.batch_size,
                augment=recipe.augment,
            )
        )
        studies.timed(fit, jax.random.key(0), root, data)
        _, taken = studies.timed(fit, jax.random.key(0), root, data)
        seconds += taken / few * steps
    return seconds


def _judge_by(classifier, test: hf.Examples, asked: hf.ForgetRequest):
    """Return what judges stacked models: their mean accuracies, and the worst."""
    accuracies = jax.jit(
        lambda variables: recipes.accuracies(classifier, variables, test, asked)
    )

    def judge(models) -> dict[str, float]:
        number = len(jax.tree.leaves(models)[0])
        found = [accuracies(trees.take(models, index)) for index in range(number)]
        forget, retain = np.array(found).T
        return {
            "forget_accuracy_test": float(forget.mean()),
            "forget_accuracy_test_worst": float(forget.max()),
            "retain_accuracy_test": float(retain.mean()),
            "retain_accuracy_test_worst": float(retain.min()),
        }

    return judge


if __name__ == "__main__":
    with runs.resumable():
        main(tyro.cli(Descendants))
