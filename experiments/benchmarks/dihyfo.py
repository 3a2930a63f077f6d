"""How fast a hypernetwork answers a request, beside fine-tuning and retraining.

    python experiments/benchmarks/dihyfo.py --out runs/dihyfo-benchmark

The whole path is one jitted function, from the classes to go to the variables of the
new model: profile, prompt, samples, sum. It is timed for one model and for 256 at once,
each with a class and a key of its own. Weights are fresh: their values do not matter to
the clock. Baselines get the same request: fine-tuning on the retained rows for as many
steps as a run of the study's zoo has, and retraining. All take turns, compilation is
left out, and the figure to quote is the median of the ratios.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import records
import timing
import tyro
from rich.console import Console

import hyperforget_jax as hf
from hyperforget_jax import hypernet, trees

sys.path.insert(0, str(Path(__file__).parents[1]))
from dihyfo_presets import PRESETS, Preset

MODELS = 256


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One class request to a hypernetwork, against two baselines."""

    presets: tuple[str, ...] = ("digits", "mnist")
    """Presets of the study."""
    repeats: int = 5
    """Turns that all take."""
    out: Path = Path("runs/dihyfo-benchmark")
    """Where the results go."""


def main(config: Benchmark) -> None:
    """Measure, print and write."""
    begin = time.perf_counter()
    rows = measure(config, Console())
    records.write(config, rows, begin, preset="+".join(config.presets))


def measure(config: Benchmark, console: Console) -> list[dict[str, Any]]:
    """Measure and print."""
    rows = []
    for name in config.presets:
        console.log(f"{name}: compiling")
        runs = compiled_runs(PRESETS[name])
        console.log(f"{name}: {config.repeats} repeats")
        entrants = {what: functools.partial(_second, run) for what, run in runs.items()}
        rows += _rows(PRESETS[name], timing.turns(entrants, config.repeats))
    for row in rows:
        means = {n: round(m["mean"], 6) for n, m in row["metrics"].items()}
        console.print(row["model"], row["method"], means)
    return rows


def compiled_runs(preset: Preset) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name; all has run once."""
    splits, classifier = preset.recipe.load(), preset.recipe.classifier
    network = hypernet.build(classifier, splits.train.x, preset.network)
    params = network.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), MODELS)
    each = jax.jit(jax.vmap(classifier.init, (0, None)))(keys, splits.train.x)
    variables = trees.take(each, 0)
    request = hf.forget_classes(splits.train, [3])
    classes = jax.nn.one_hot(jnp.arange(MODELS) % network.num_classes, 10) > 0
    calls: dict[str, tuple[Callable[..., Any], Any]] = {}
    for steps in (1, 20):
        unlearner = hf.dihyfo(classifier, network, params, steps=steps)
        state = unlearner.init(keys[0], variables, splits.train)
        answer = functools.partial(_answer, unlearner)
        answer_all = jax.vmap(answer, (0, None, 0, 0))
        tag = f"dihyfo, {steps} step{'s' if steps > 1 else ''}"
        arguments = keys[0], state, variables, request.classes
        calls[f"{tag}, 1 model"] = answer, arguments
        calls[f"{tag}, {MODELS} models"] = answer_all, (keys, state, each, classes)
    baselines = {
        "finetune": hf.finetune(
            classifier,
            optimizer=preset.forget().optimizer,
            steps=preset.forget_steps,
            batch_size=preset.recipe.batch_size,
        ),
        "retrain": preset.recipe.retrain(classifier),
    }
    for name, unlearner in baselines.items():
        state = unlearner.init(keys[0], variables, splits.train)
        calls[name] = unlearner.unlearn, (keys[1], state, request)
    runs = {}
    for name, (function, arguments) in calls.items():
        runs[name], _ = timing.compiled(function, *arguments)
        timing.timed(runs[name])
    return runs


def _answer(unlearner, key, state, variables, classes):
    """Forget some classes in one model."""
    request = hf.ForgetRequest(None, jnp.zeros(0, jnp.int32), classes)
    state = state._replace(variables=variables)
    return unlearner.unlearn(key, state, request)[0].variables


def _second(run: Callable[[], Any]) -> float:
    timing.timed(run)  # A program that has slept runs slower at first.
    return timing.seconds_of(run)


def _rows(preset: Preset, seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    rows = []
    for name, own in seconds.items():
        values: dict[str, Any] = {"seconds": own}
        if name.endswith("1 model"):
            for baseline in ("finetune", "retrain"):
                values[f"ratio_{baseline}"] = np.divide(seconds[baseline], own)
        if name.endswith(f"{MODELS} models"):
            values["models_per_second"] = np.divide(MODELS, own)
        rows.append(
            records.row(
                name,
                values,
                dataset=preset.recipe.dataset,
                model=preset.recipe.model,
                scenario="benchmark",
                request="class 3",
                access=hf.Access(unlearn={"classes"}),
                seconds=records.NOT_TIMED | {"unlearn": sum(own) / len(own)},
            )
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
