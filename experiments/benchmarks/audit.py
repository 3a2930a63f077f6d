"""How fast an audit's models are trained, and how fast they are judged.

    python experiments/benchmarks/audit.py --out runs/audit-benchmark

Three parts, of which ``--parts`` chooses:

- ``shadows``: shadow models on random complementary halves of the rows by
  ``hf.fit_population``, against a loop over them in PyTorch, from the same weights on.
  PyTorch runs in a process of its own, with one thread and with all; the ratio is
  against the faster. That models of both are as accurate is checked. Without PyTorch
  this part is left out.
- ``score``: the forgetting score of an example, against a transcription of its rules,
  which must give the same epsilon.
- ``judge``: the whole verdict on a claim, in seconds.

Shadow models are trained on as many devices as there are CPUs, as ``docs/devices.md``
advises. Entrants take turns in one run, so that a machine whose speed drifts slows all;
of shadow models in alternating order. The figure to quote is the ratio, its median over
repeats. Compilation is left out: all are run once before the clock starts. Do nothing
else on the machine.
"""

import dataclasses
import functools
import importlib.metadata
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import records
import timing
import tyro
from baselines import forgetting_rules
from rich.console import Console

import hyperforget_jax as hf

PARTS = ("shadows", "score", "judge")
# Hidden width, learning rate and training steps.
NETWORKS = {"digits": (64, 5e-3, 300), "mnist": (10, 3e-3, 500)}
BATCH_SIZE = 128
# How much faster than the baseline to be.
AIMS = {"digits": 10.0, "mnist": 4.0, "score": 100.0}
# How far apart mean test accuracies of both libraries' models may be.
TOLERANCE = 0.03


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Shadow models and audits, against what people write."""

    parts: tuple[Literal["shadows", "score", "judge"], ...] = PARTS
    """shadows: against PyTorch; score: against its rules; judge: in seconds."""
    datasets: tuple[str, ...] = ("digits", "mnist")
    """What shadow models are trained on."""
    shadows: int = 64
    """Shadow models, an even number."""
    steps: int | None = None
    """Training steps of each; by default the network's."""
    models: int = 512
    """Models a side of the forgetting score."""
    judged: int = 128
    """Models a side of the whole verdict."""
    examples: int = 50
    """Forgotten examples of the whole verdict."""
    repeats: int = 5
    """Turns that the entrants take."""
    out: Path = Path("runs/audit-benchmark")
    """Where the results go."""


def main(config: Benchmark) -> None:
    """Measure, print and write."""
    console, begin = Console(), time.perf_counter()
    rows: list[dict[str, Any]] = []
    if "shadows" in config.parts:
        if why := timing.why_no_torch():
            console.print(f"Shadow models are left out: {why}", markup=False)
        else:
            for dataset in config.datasets:
                console.log(f"{dataset}: {config.shadows} shadow models")
                rows += shadows(config, dataset)
    if "score" in config.parts:
        console.log(f"forgetting score of {config.models} models a side")
        rows += score(config)
    if "judge" in config.parts:
        console.log(f"a verdict on {config.judged} models a side")
        rows += verdict(config)
    if not rows:
        raise SystemExit("Nothing was measured.")
    for row in rows:
        means = {name: round(one["mean"], 6) for name, one in row["metrics"].items()}
        console.print(row["dataset"], row["method"], means)
    records.write(config, rows, begin)


def shadows(config: Benchmark, dataset: str) -> list[dict[str, Any]]:
    """Train shadow models in both libraries: a row for each entrant."""
    from baselines import shadows_torch

    try:
        splits = hf.data.load(dataset)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
    train, test = splits.train, splits.test
    width, learning_rate, steps = NETWORKS[dataset]
    steps = config.steps or steps
    classifier = hf.from_linen(hf.models.MLP((width,)))
    optimizer = optax.adam(learning_rate)  # Another one would be compiled anew.
    rows = _halves(config.shadows, train.y.shape[0])
    weights = np.zeros((len(rows), train.y.shape[0]), np.int32)
    np.put_along_axis(weights, rows, 1, axis=1)
    keys = jax.random.split(jax.random.key(1), len(rows))
    starts = jax.vmap(lambda key: classifier.init(key, train.x))(keys)
    mesh = hf.sharding.make_mesh()

    def population():
        return hf.fit_population(
            jax.random.key(0),
            classifier,
            train,
            optimizer,
            steps,
            members=len(rows),
            weights=jnp.asarray(weights),
            starts=starts,
            batch_size=BATCH_SIZE,
            mesh=mesh,
            progress=False,
        ).variables

    @jax.jit
    def accuracy(variables, test):
        logits = jax.vmap(classifier.apply, (0, None))(variables, test.x)
        return jnp.mean(jnp.argmax(logits, -1) == test.y[None])

    def ours():
        seconds, variables = timing.timed(population)
        return {"seconds": seconds, "accuracy": float(accuracy(variables, test))}

    x, test_x = (
        np.asarray(each.x).reshape(each.y.shape[0], -1) for each in (train, test)
    )
    y, test_y = np.asarray(train.y), np.asarray(test.y)
    layers = [jax.tree.map(np.asarray, layer) for layer in starts["params"].values()]
    request = shadows_torch.Request(
        x, y, rows, test_x, test_y, layers, learning_rate, steps, BATCH_SIZE
    )
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        entrants: dict[str, Callable[[], dict[str, Any]]] = {"population": ours}
        for threads in sorted({1, _cpus()}):
            entrants[f"pytorch-{threads}"] = functools.partial(
                pool.apply, shadows_torch.run, (request, threads)
            )
        for entrant in entrants.values():
            entrant()
        found = timing.turns(entrants, config.repeats)
    mean = {
        name: np.mean([one["accuracy"] for one in of]) for name, of in found.items()
    }
    if max(mean.values()) - min(mean.values()) > TOLERANCE:
        raise SystemExit(f"{dataset}: models of both are not as accurate: {mean}.")
    taken = {name: np.array([o["seconds"] for o in of]) for name, of in found.items()}
    fastest = np.min([of for name, of in taken.items() if name != "population"], axis=0)
    factors = {
        "shadows": len(rows),
        "steps": steps,
        "batch_size": BATCH_SIZE,
        "cpus": _cpus(),
        "devices": jax.device_count(),
        "torch": importlib.metadata.version("torch"),
        "aim": AIMS[dataset],
    }
    results = []
    for name, seconds in taken.items():
        values = {
            "seconds": seconds,
            "model_steps_per_second": len(rows) * steps / seconds,
            "test_accuracy": [one["accuracy"] for one in found[name]],
        }
        if name == "population":
            values["ratio_to_rival"] = fastest / seconds
        results.append(
            _row(name, values, dataset=dataset, model=f"mlp-{width}", factors=factors)
        )
    return results


def score(config: Benchmark) -> list[dict[str, Any]]:
    """Score examples by both, another one at every turn: a row for each entrant."""
    generator = np.random.default_rng(0)
    shape = (config.models, config.repeats)
    retrained = generator.normal(0.0, 1.5, shape)
    unlearned = generator.normal(1.0, 2.0, shape)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "rules": []}
    for example in range(config.repeats):
        pair = unlearned[:, [example]], retrained[:, [example]]
        # The second of two calls, since one is short.
        timing.timed(hf.audits.example_epsilons, *pair)
        seconds, (epsilon,) = timing.timed(hf.audits.example_epsilons, *pair)
        found["ours"].append({"seconds": seconds, "epsilon": epsilon})
        alone = (side[:, 0] for side in pair)
        seconds, epsilon = timing.timed(forgetting_rules.epsilon, *alone)
        found["rules"].append({"seconds": seconds, "epsilon": epsilon})
    values = {
        name: {key: np.array([one[key] for one in of]) for key in of[0]}
        for name, of in found.items()
    }
    theirs, own = values["rules"], values["ours"]
    np.testing.assert_allclose(own["epsilon"], theirs["epsilon"], rtol=1e-9)
    own["ratio_to_rival"] = theirs["seconds"] / own["seconds"]
    factors = {"models": config.models, "aim": AIMS["score"]}
    return [
        _row(f"forgetting_score/{name}", of, factors=factors)
        for name, of in values.items()
    ]


def verdict(config: Benchmark) -> list[dict[str, Any]]:
    """Judge a claim of models that still lean to what they forgot: one row."""
    generator, classes = np.random.default_rng(0), 10
    labels = generator.integers(classes, size=config.examples)
    each = ["original", "retrained", "retrained", "unlearned"]
    kinds = np.repeat(each, config.judged)
    logits = generator.normal(size=(kinds.size, config.examples, classes))
    shift = 4.0 * (kinds == "original") + 0.5 * (kinds == "unlearned")
    logits += shift[:, None, None] * np.eye(classes)[labels]
    seconds = timing.seconds_of(hf.audits.judge, logits, labels, kinds)
    factors = {"models": config.judged, "examples": config.examples}
    return [_row("judge", {"seconds": seconds}, factors=factors)]


def _halves(models: int, count: int) -> np.ndarray:
    """Draw the rows that models see: of two in a row, each has the other's rest."""
    generator, half = np.random.default_rng(0), count // 2
    orders = [generator.permutation(count) for _ in range(models // 2)]
    return np.array([part for o in orders for part in (o[:half], o[half : 2 * half])])


def _cpus() -> int:
    """How many CPUs this process may use, and so the one that it starts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_row = functools.partial(
    records.row, dataset="normal", model="none", access=None, seconds=None
)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", _cpus())  # Each core is a device.
    main(tyro.cli(Benchmark))
