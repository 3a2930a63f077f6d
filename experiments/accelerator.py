"""What a GPU or TPU makes of this library: utilisation, ratios, a full-size request.

    python experiments/accelerator.py --out runs/accelerator
    python experiments/accelerator.py --out runs/accelerator --resume

Seven parts, of which ``--parts`` chooses, most telling first:

- ``utilisation``: FLOP/s that a population and a ResNet-18 reach in training, beside
  those of large matrix products in bfloat16 and float32.
- ``resnet18``: a ResNet-18 is trained on CIFAR-10 for a few hundred steps and forgets a
  class by PGU and by FIUn, beside one that was retrained.
- ``population``, ``fiun``, ``pgu``, ``dihyfo`` and ``convolution``: the benchmarks of
  those names, without PyTorch, and without the ways to write a convolution, which
  are for CPUs.

A part that is done is kept in ``--out``, and is not done again. None is begun that
would take longer than is left of ``--budget``: with ``--resume`` the next run goes on.
A part that fails leaves the others alone. Seconds that parts state are for a large GPU,
compilation included (with ``JAX_COMPILATION_CACHE_DIR`` set, that is paid once).
``--size smallest`` is for trying all this on a CPU.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import accelerator_resnet18 as resnet18
import accelerator_utilisation as utilisation
import jax
import tyro
from recipes import Recipe
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax.training import resuming

# The benchmarks import what is beside them.
sys.path.append(str(Path(__file__).resolve().parent / "benchmarks"))

from benchmarks import convolution, dihyfo, fiun, pgu, population

Name = Literal[
    "utilisation", "resnet18", "population", "fiun", "pgu", "dihyfo", "convolution"
]


class Part(NamedTuple):
    """One part: how many seconds it may take, and what measures it."""

    seconds: float
    measure: Callable[[Console], list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Measure what a GPU or TPU makes of this library."""

    size: Literal["full", "smallest"] = "full"
    """smallest is for trying it on a CPU."""
    parts: tuple[Name, ...] = (
        *("utilisation", "resnet18"),
        *("population", "fiun", "pgu", "dihyfo", "convolution"),
    )
    """What is measured."""
    budget: float = 600.0
    """Seconds; no part is begun that needs more than is left."""
    resume: bool = False
    """Go on with what is in --out."""
    out: Path = Path("runs/accelerator")
    """Where the results go."""


def main(config: Accelerator) -> None:
    """Measure what is not done yet, and write what there is."""
    console, begin = Console(), time.perf_counter()
    if config.size == "full" and jax.default_backend() == "cpu":
        runs.refuse(
            "There is no accelerator here, and a CPU would take hours: give "
            "--size smallest, or install this package's extra cuda or tpu."
        )
    device = describe()
    console.print(device)
    known = {name: device[name] for name in ("platform", "kind", "count")}
    record = {"size": config.size, **known}
    runs.open_folder(config.out, record, config.resume)
    missing: dict[str, str] = {}
    for name, part in PARTS[config.size].items():
        if name not in config.parts or _path(config, name).exists():
            continue
        left = config.budget - (time.perf_counter() - begin)
        if left < part.seconds:
            console.log(f"{name}: takes {part.seconds:g} s, and {left:.0f} are left")
            missing[name] = "no time was left"
            continue
        console.log(name)
        start = time.perf_counter()
        try:
            rows = part.measure(console)
        except (Exception, SystemExit) as error:
            console.print_exception()
            # What it says may name folders of this machine.
            missing[name] = type(error).__name__
            continue
        write(config, _path(config, name), rows, {"device": device}, start)
    collect(config, device, missing)
    failed = [name for name, why in missing.items() if why != "no time was left"]
    if failed:
        raise SystemExit(f"These parts failed, see above: {', '.join(failed)}.")


def describe() -> dict[str, Any]:
    """Describe the devices, in words that JSON can hold."""
    devices = jax.devices()
    first = devices[0]
    limit = (first.memory_stats() or {}).get("bytes_limit")
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": len(devices),
        # What JAX may take of it; CPUs do not say.
        "memory_gib": None if limit is None else limit / 2**30,
        "runtime": first.client.platform_version,
        "numerics": resuming.numerics(),
    }


def collect(config: Accelerator, device: Any, missing: dict[str, str]) -> None:
    """Write all parts that are done as one document."""
    done = {
        name: hf.report.read(_path(config, name), references=False)
        for name in PARTS[config.size]
        if _path(config, name).exists()
    }
    if not done:
        raise SystemExit("Nothing was measured.")
    about = ("date", "commit", "dirty", "seconds")
    record = {
        "device": device,
        "parts": {name: {k: part[k] for k in about} for name, part in done.items()},
        "missing": missing,
    }
    write(
        config,
        config.out / "results.json",
        [row for part in done.values() for row in part["rows"]],
        record,
        time.perf_counter() - sum(part["seconds"] for part in done.values()),
    )


def write(config: Accelerator, path: Path, rows, record, begin: float) -> None:
    """Write one part, or all."""
    options: Any = dict(preset=config.size, path=path, references=False)
    runs.write(config, rows, record, begin, **options)


def _path(config: Accelerator, name: str) -> Path:
    return config.out / "parts" / f"{name}.json"


def _population(config: population.Benchmark, console: Console):
    """Beside a loop over jitted steps."""
    rows = []
    for hidden in ((16,), (64,)):
        rows += population.populations(config, hidden)
        ratio = rows[-2]["metrics"]["ratio_to_rival"]["mean"]
        console.print(f"digits, MLP {hidden}: {ratio:.3g} times the loop's rate")
    return rows


def _fiun(config: fiun.Benchmark, console: Console):
    # The memory of processes, which the benchmark measures too, is not the device's.
    return fiun.measure(config, console, {})


def _pgu(config: pgu.Benchmark, recipe: Recipe, networks, console: Console):
    """Against retraining, for each network."""
    rows = []
    for network in networks:
        own = dataclasses.replace(recipe, network=network, rows=config.rows)
        console.log(f"{own.model}: training")
        rows += pgu.against_retraining(config, pgu.train(config, own))
    return rows


def _convolution(config: convolution.Benchmark, console: Console):
    """A training step of a ResNet-8."""
    entrants = convolution.training(config.batch_size, config.steps)
    rows = convolution.measure(config, entrants, "resnet-8")
    for row in rows:
        mean = row["metrics"]["milliseconds_step"]["mean"]
        console.print(f"{row['method']}: {mean:.3g} ms a step")
    return rows


_run = functools.partial
# For each, what it takes; a GPU's seconds are estimates.
PARTS = {
    "full": {
        "utilisation": Part(60, _run(utilisation.measure, utilisation.Sizes())),
        "resnet18": Part(180, _run(resnet18.measure, resnet18.Sizes())),
        "population": Part(60, _run(_population, population.Benchmark())),
        "fiun": Part(60, _run(_fiun, fiun.Benchmark())),
        "pgu": Part(90, _run(_pgu, pgu.Benchmark(), pgu.RECIPE, pgu.NETWORKS)),
        "dihyfo": Part(90, _run(dihyfo.measure, dihyfo.Benchmark())),
        "convolution": Part(45, _run(_convolution, convolution.Benchmark(steps=100))),
    },
    "smallest": {
        "utilisation": Part(
            10, _run(utilisation.measure, utilisation.Sizes(1, 64, 8, 8, 5, (4,), 1, 8))
        ),
        "resnet18": Part(
            30, _run(resnet18.measure, resnet18.Sizes((4,), 200, 100, 5, 20, 1))
        ),
        "population": Part(
            20,
            _run(
                _population,
                population.Benchmark(
                    members=2, steps=20, every=10, loop_members=1, repeats=1
                ),
            ),
        ),
        "fiun": Part(
            20,
            _run(_fiun, fiun.Benchmark("digits", models=22, repeats=1, measured=2)),
        ),
        "pgu": Part(
            20,
            _run(
                _pgu,
                pgu.Benchmark(rows=200, repeats=1, rounds=1),
                Recipe("digits", (8,), 2e-3, 1.0, 20, 64),
                (None,),
            ),
        ),
        "dihyfo": Part(
            30, _run(dihyfo.measure, dihyfo.Benchmark(("digits",), repeats=1))
        ),
        "convolution": Part(
            20,
            _run(_convolution, convolution.Benchmark(batch_size=4, steps=1, repeats=1)),
        ),
    },
}

if __name__ == "__main__":
    main(tyro.cli(Accelerator))
