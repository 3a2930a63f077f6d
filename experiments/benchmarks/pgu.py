"""How fast projected-gradient unlearning answers a request.

    python experiments/benchmarks/pgu.py --out runs/pgu-benchmark

Two parts, of which ``--parts`` chooses:

- ``a``: one class request of ``hf.pgu`` against retraining by the recipe that the model
  was trained with. Preparation, which is done once while the data are there, is
  recorded apart.
- ``b``: the published algorithm in ``hf.subspace``, against the same in plain PyTorch:
  Gram matrices of all training data, less those to be forgotten, decomposed, and a
  hundred projected steps. Both are given the same weights, data, minibatches and number
  of threads, in float32. PyTorch decomposes as published, in float64 (``svd64``), or
  as we do (``eigh32``). It runs in a process of its own, so that neither library's
  threads are in the other's way. That both end at nearly the same weights is checked
  before the clock starts. Without PyTorch this part is left out.

Entrants take turns in one run, in alternating order, so that a machine whose speed
drifts slows all. The figure to quote is the ratio of the least seconds, baseline by
ours, beside the range over repeats. Compilation is left out and recorded apart; what is
short is called twice in a row, and the second call counts. Do nothing else on the
machine: PyTorch's threads wait for each other, and lose far more by being disturbed
than ours do.
"""

import dataclasses
import functools
import importlib.metadata
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import published
import records
import timing
import tyro
from rich.console import Console

import hyperforget_jax as hf

sys.path.append(str(Path(__file__).resolve().parents[1]))

import recipes

PARTS = ("a", "b")
DECOMPOSITIONS = ("svd64", "eigh32")
PHASES = ("gram", "forget_gram", "decompose", "steps")
# How much faster than the baseline to be, part by part.
AIMS = {"a": 20.0, "b": 5.0}
# How far apart both may end if they decompose alike, as a share of what projection does
# to the same steps. It is not less, since the cut is among directions that float32
# hardly distinguishes: on which side of it they are is a matter of rounding.
TOLERANCE = 0.1
RECIPE = recipes.Recipe("mnist", (128,), 2e-3, 1.0, 1_000, 128)
# None is the recipe's perceptron.
NETWORKS = (None, "cnn-16-32-64")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Projected-gradient unlearning against retraining, and against PyTorch."""

    parts: tuple[Literal["a", "b"], ...] = PARTS
    """a: against retraining; b: against PyTorch."""
    rows: int = 12_000
    """Training rows of MNIST."""
    repeats: int = 5
    """Turns that the entrants take."""
    threads: int | None = None
    """Of all entrants; by default as many as this process may use."""
    rounds: int = 10
    """Rounds of the published schedule in part a, an epoch of the class each."""
    forget: int = 3
    """The class to forget."""
    seed: int = 0
    """Of training, requests and minibatches."""
    out: Path = Path("runs/pgu-benchmark")
    """Where the results go."""


class Trained(NamedTuple):
    """A model and its data.

    Attributes:
        recipe: by which it was trained.
        classifier: the model.
        variables: its variables.
        splits: training and test examples.
        request: one class.
    """

    recipe: recipes.Recipe
    classifier: hf.Classifier
    variables: Any
    splits: hf.data.Splits
    request: hf.ForgetRequest


def main(config: Benchmark) -> None:
    """Measure, print and write."""
    config = _on_threads(config)
    console, begin = Console(), time.perf_counter()
    parts, rows = set(config.parts), []
    if "b" in parts and (why := timing.why_no_torch()):
        console.print(f"Part b is left out: {why}", markup=False)
        parts.remove("b")
    for network in NETWORKS if parts else ():
        recipe = dataclasses.replace(RECIPE, network=network, rows=config.rows)
        console.log(f"{recipe.model}: training")
        trained = train(config, recipe)
        if "a" in parts:
            console.log(f"{recipe.model}: against retraining")
            rows += against_retraining(config, trained)
        if "b" in parts:
            console.log(f"{recipe.model}: against PyTorch")
            rows += against_torch(config, trained, console)
    if not rows:
        raise SystemExit("Nothing was measured.")
    console.print(_summary(rows), markup=False)
    records.write(config, rows, begin, preset="mnist", recipe=RECIPE.record())


def train(config: Benchmark, recipe: recipes.Recipe) -> Trained:
    """Train what is to forget."""
    try:
        splits = recipe.load()
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
    classifier = recipe.classifier
    variables = hf.fit(
        jax.random.key(config.seed),
        classifier,
        splits.train,
        recipe.optimizer(recipe.steps),
        recipe.steps,
        batch_size=recipe.batch_size,
    )
    request = hf.forget_classes(splits.train, (config.forget,))
    return Trained(recipe, classifier, variables, splits, request)


def against_retraining(config: Benchmark, trained: Trained) -> list[dict[str, Any]]:
    """Measure part a: a row for each configuration."""
    recipe, classifier, variables, splits, request = trained
    published = hf.PGUConfig.published()
    configs = {
        "repaired": hf.PGUConfig(),
        "published": dataclasses.replace(published, rounds=config.rounds, stop="never"),
    }
    entrants = {"retraining": recipe.retrain(classifier)} | {
        name: hf.pgu(classifier, each) for name, each in configs.items()
    }
    key = jax.random.key(config.seed)
    answers: dict[str, Callable[[], Any]] = {}
    init, compiled, accuracy = {}, {}, {}
    for name, unlearner in entrants.items():
        prepare, more = timing.compiled(unlearner.init, key, variables, splits.train)
        timing.timed(prepare)
        init[name], state = timing.timed(prepare)
        answers[name], compiled[name] = timing.compiled(
            unlearner.unlearn, key, state, request
        )
        compiled[name] += more
        state, info = answers[name]()
        if np.any(np.asarray(info.failed_at) >= 0):
            raise SystemExit(f"{recipe.model}: {name} diverged: it took no full steps.")
        accuracy[name] = recipes.accuracies(
            classifier, state.variables, splits.test, request
        )
    clocked = {
        name: functools.partial(timing.settled_seconds, answer)
        for name, answer in answers.items()
    }
    seconds = timing.turns(clocked, config.repeats)

    rows = []
    for name, settings in configs.items():
        an_epoch = -(-request.forget.y.shape[0] // settings.batch_size)
        values = _beside(seconds[name], seconds["retraining"])
        for place, what in enumerate(("forget", "retain")):
            values[f"{what}_accuracy_test"] = accuracy[name][place]
            values[f"rival_{what}_accuracy_test"] = accuracy["retraining"][place]
        factors = {
            "preset": name,
            "rounds": settings.rounds,
            "steps": settings.rounds * (settings.round_steps or an_epoch),
            "rival": "retraining",
            "rival_steps": recipe.steps,
            "rival_batch_size": recipe.batch_size,
            "rival_compile_seconds": compiled["retraining"],
        }
        times = (init[name], float(np.mean(seconds[name])), compiled[name])
        access = entrants[name].access
        rows.append(_row(config, trained, "a", values, access, factors, times))
    return rows


def against_torch(
    config: Benchmark, trained: Trained, console: Console
) -> list[dict[str, Any]]:
    """Measure part b: a row for each way that PyTorch decomposes."""
    from baselines import pgu_torch

    how = hf.PGUConfig.published()
    gamma, rate, end_rate, offset, entropy = (
        float(getattr(how, name))
        for name in ("threshold", "learning_rate", "end_rate", "offset", "entropy")
    )
    _, classifier, variables, splits, _ = trained
    data, model = splits.train, trained.recipe.model
    chosen = np.flatnonzero(np.asarray(data.y) == config.forget)
    forget = data.take(jnp.asarray(chosen))
    batches = published.batches(config.seed, chosen.size, how.batch_size)
    decay = np.arange(published.STEPS) / (published.STEPS - 1)
    rates = rate * (end_rate / rate) ** decay
    paths = published.layers(variables["params"])
    layers = [jax.tree.map(np.asarray, variables["params"][path]) for path in paths]
    request = pgu_torch.Request(
        # The convolutions of this network have stride two.
        [pgu_torch.Layer(**one, stride=one["kernel"].ndim // 2) for one in layers],
        np.asarray(data.x),
        np.asarray(forget.x),
        np.asarray(forget.y),
        batches,
        rates,
        gamma,
        offset,
        entropy,
        config.threads or 1,
    )
    ours = published.phases(classifier, how, variables, data, forget, batches, rates)
    before = [layer["kernel"] for layer in layers]
    with multiprocessing.get_context("spawn").Pool(1) as pool:

        def warm():
            ours(gamma)  # PyTorch warms up by itself.
            return ours(gamma)

        entrants: dict[str, Callable[[], dict[str, Any]]] = {"ours": warm}
        for name in DECOMPOSITIONS:
            entrants[name] = functools.partial(
                pool.apply, pgu_torch.run, (request, name)
            )
        unprojected = ours(0.0)
        found = {name: function() for name, function in entrants.items()}
        np.testing.assert_allclose(
            found["eigh32"]["logits"],
            classifier.apply(variables, data.x[:100]),
            rtol=1e-3,
            atol=1e-4,
        )
        compile_seconds = max(_total(unprojected) - _total(found["ours"]), 0.0)
        apart = {
            name: published.apart(found["ours"], found[name], before)
            for name in DECOMPOSITIONS
        }
        yardstick = published.apart(unprojected, found["ours"], before)
        for name, distance in apart.items():
            console.log(
                f"{model}: {name} ends {distance:.2g} of its way from ours, which ends "
                f"{yardstick:.2g} from where no projection would; directions kept "
                f"{found['ours']['ranks']}, {name} {found[name]['ranks']}"
            )
        if apart["eigh32"] > TOLERANCE * yardstick:
            raise SystemExit(f"{model}: PyTorch does not compute what ours does.")
        clocked = {
            name: functools.partial(_seconds, entrant)
            for name, entrant in entrants.items()
        }
        seconds = timing.turns(clocked, config.repeats)

    rows = []
    for name in DECOMPOSITIONS:
        own, theirs = (
            [sum(of_one.values()) for of_one in seconds[who]] for who in ("ours", name)
        )
        values = _beside(own, theirs)
        for phase in PHASES:
            for who, label in (("ours", ""), (name, "rival_")):
                values[f"{label}{phase}_seconds"] = [
                    of_one[phase] for of_one in seconds[who]
                ]
        values["weights_apart"] = apart[name]
        values["weights_apart_unprojected"] = yardstick
        factors = {
            "preset": "published",
            "steps": published.STEPS,
            "batch_size": how.batch_size,
            "ranks": found["ours"]["ranks"],
            "rival": f"pytorch-{name}",
            "rival_ranks": found[name]["ranks"],
            "rival_version": importlib.metadata.version("torch"),
        }
        access = hf.pgu(classifier, how).access
        times = (0.0, float(np.mean(own)), compile_seconds)
        rows.append(_row(config, trained, "b", values, access, factors, times))
    return rows


def _on_threads(config: Benchmark) -> Benchmark:
    """The configuration with a number of threads, to which this process is held."""
    if not hasattr(os, "sched_setaffinity"):
        if config.threads is not None:
            raise SystemExit(
                "--threads needs a system that can hold a process to CPUs."
            )
        return dataclasses.replace(config, threads=os.cpu_count())
    there = sorted(os.sched_getaffinity(0))
    threads = len(there) if config.threads is None else config.threads
    if not 0 < threads <= len(there):
        raise SystemExit(f"--threads must lie in [1, {len(there)}], got {threads}.")
    if threads < len(there):
        # Libraries have counted CPUs by now: begin anew, and they count fewer.
        os.sched_setaffinity(0, there[:threads])
        os.execv(sys.executable, sys.orig_argv)
    return dataclasses.replace(config, threads=threads)


def _seconds(entrant: Callable[[], dict[str, Any]]) -> dict[str, float]:
    return entrant()["seconds"]


def _total(found: Mapping[str, Any]) -> float:
    return sum(found["seconds"].values())


def _beside(ours: list[float], rival: list[float]) -> dict[str, Any]:
    return {
        "seconds_per_request": ours,
        "rival_seconds": rival,
        "ratio_to_rival": np.divide(rival, ours),
        "ratio_of_least": min(rival) / min(ours),
    }


def _row(
    config: Benchmark,
    trained: Trained,
    part: str,
    values: Mapping[str, Any],
    access: hf.Access,
    factors: Mapping[str, Any],
    times: Sequence[float],
) -> dict[str, Any]:
    init, unlearn, compiled = times
    return records.row(
        "pgu",
        values,
        dataset=trained.recipe.dataset,
        model=trained.recipe.model,
        request=f"class {config.forget}",
        access=access,
        seconds={"init": init, "unlearn": unlearn, "compile": compiled},
        factors={"part": part, "aim": AIMS[part], "threads": config.threads}
        | {"rows": trained.splits.train.y.shape[0]}
        | dict(factors),
    )


def _summary(rows: list[dict[str, Any]]) -> str:
    """Least seconds and ratios, phase by phase where there are phases."""
    lines = []
    for row in rows:
        factors = {
            name: row["factors"].get(name) for name in ("part", "preset", "rival")
        }
        values = {name: metric["min"] for name, metric in row["metrics"].items()}
        lines.append({"model": row["model"]} | factors | values)
    frame = pd.DataFrame(lines).set_index("model").T
    return frame.dropna(how="all").to_string(float_format="{:.3g}".format, na_rep="")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
