"""How fast a hypernetwork answers a request, beside fine-tuning and retraining.

    python experiments/benchmarks/dihyfo.py --out runs/dihyfo-benchmark

The whole path is one jitted function, from the classes to go to the variables of the
new model: profile, prompt, samples, sum. It is timed for one model and for 256 at once,
each with a class and a key of its own. The weights are a fresh network's: what they are
is nothing to the clock. Rivals are given the same request: fine-tuning on the retained
rows for as many steps as a run of the study's zoo has, and retraining. All take turns,
compilation is left out, and the figure to quote is the median of the ratios.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console

import hyperforget_jax as hf
from hyperforget_jax import hypernet

sys.path.insert(0, str(Path(__file__).parents[1]))
from dihyfo_presets import PRESETS, Preset

MODELS = 256


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One class request to a hypernetwork, against two rivals."""

    presets: tuple[str, ...] = ("digits", "mnist")
    """Presets of the study."""
    repeats: int = 5
    """Turns that all take."""
    out: Path = Path("runs/dihyfo-benchmark")
    """Where the results go."""


def main(config: Benchmark) -> None:
    """Measures, prints and writes."""
    console, begun, rows = Console(), time.perf_counter(), []
    for name in config.presets:
        console.log(f"{name}: compiling")
        entrants = contest(PRESETS[name])
        seconds: dict[str, list[float]] = {}
        for repeat in range(config.repeats):
            console.log(f"{name}: repeat {repeat + 1} of {config.repeats}")
            for what, run in entrants.items():
                run()  # A program that has slept runs slower at first.
                before = time.perf_counter()
                run()
                seconds.setdefault(what, []).append(time.perf_counter() - before)
        rows += _rows(PRESETS[name], seconds)
    for row in rows:
        told = {n: round(m["mean"], 6) for n, m in row["metrics"].items()}
        console.print(row["model"], row["method"], told)
    document = hf.report.results_document(
        rows,
        preset="+".join(config.presets),
        config=dataclasses.asdict(config),
        seconds=time.perf_counter() - begun,
        repository=Path(__file__).parent,
    )
    hf.report.write(config.out / "results.json", document, references=False)


def contest(preset: Preset) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; all has run once."""
    splits, classifier = preset.recipe.load(), preset.recipe.classifier
    network = hypernet.build(classifier, splits.train.x, preset.network)
    params = network.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), MODELS)
    each = jax.jit(jax.vmap(classifier.init, (0, None)))(keys, splits.train.x)
    variables = jax.tree.map(lambda leaf: leaf[0], each)
    request = hf.forget_classes(splits.train, [3])
    labels = jnp.arange(MODELS) % network.num_classes
    entrants = {}

    def add(name: str, function, *arguments) -> None:
        jitted = jax.jit(function)

        def run():
            return jax.block_until_ready(jitted(*arguments))

        run()
        entrants[name] = run

    for steps in (1, 20):
        unlearner = hf.dihyfo(classifier, network, params, steps=steps)
        state = unlearner.init(keys[0], variables, splits.train)

        def answer(key, state, classes, unlearner=unlearner):
            asked = hf.ForgetRequest(None, jnp.zeros(0, jnp.int32), classes)
            return unlearner.unlearn(key, state, asked)[0].variables

        def answer_all(keys, state, each, classes, answer=answer):
            return jax.vmap(
                lambda key, own, classes: answer(
                    key, state._replace(variables=own), classes
                )
            )(keys, each, classes)

        tag = f"dihyfo, {steps} step{'s' if steps > 1 else ''}"
        add(f"{tag}, 1 model", answer, keys[0], state, request.classes)
        every = jax.nn.one_hot(labels, network.num_classes) > 0
        add(f"{tag}, {MODELS} models", answer_all, keys, state, each, every)
    rivals = {
        "finetune": hf.finetune(
            classifier,
            optimizer=preset.forget().optimizer,
            steps=preset.forget_steps,
            batch_size=preset.recipe.batch_size,
        ),
        "retrain": preset.recipe.retrain(classifier),
    }
    for name, unlearner in rivals.items():
        state = unlearner.init(keys[0], variables, splits.train)
        add(name, unlearner.unlearn, keys[1], state, request)
    return entrants


def _rows(preset: Preset, seconds: dict[str, list[float]]):
    rows = []
    access = hf.Access(unlearn={"classes"})
    for name, ours in seconds.items():
        found = []
        for turn, value in enumerate(ours):
            one = {"seconds": value}
            if name.endswith("1 model"):
                for rival in ("finetune", "retrain"):
                    one[f"ratio_{rival}"] = seconds[rival][turn] / value
            if name.endswith(f"{MODELS} models"):
                one["models_per_second"] = MODELS / value
            found.append(one)
        mean = sum(ours) / len(ours)
        rows.append(
            hf.report.results_row(
                name,
                found,
                dataset=preset.recipe.dataset,
                model=preset.recipe.model,
                scenario="benchmark",
                request="class 3",
                access=access,
                seconds={"init": 0.0, "unlearn": mean, "compile": 0.0},
                over="repeat",
            )
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
