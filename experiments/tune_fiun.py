"""Choose the presets of Fisher unlearning, on probe rows and seeds no table uses.

    python experiments/tune_fiun.py --out runs/tune-fiun

Every grid point answers all ten class requests in both regimes of the federated and the
transfer-learning networks. ``repaired`` is scored by (1 - forget) * retain, least over
requests and nodes and mean over seeds, since one bad class is what users meet;
``folded``, which is ``head_reassign``, by its divergence from the retrained network of
the same seed, which also decides between points of ``repaired`` that tie to three
digits; then the first in the grid, whose first is the largest.
"""

import dataclasses
import time
from pathlib import Path

import fiun_bench
import networks
import numpy as np
import tuning
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs


@dataclasses.dataclass(frozen=True)
class Tune:
    """Choose the presets on the probe split."""

    preset: str = "mnist"
    """Data, classifier and recipe."""
    seeds: int = 5
    """Training seeds, none of which a table uses."""
    settings: tuple[str, ...] = ("federated", "transfer")
    """The networks."""
    rules: tuple[str, ...] = ("repaired", "folded")
    """The presets to tune."""
    points: tuple[int, ...] = ()
    """Which points of each grid to measure, by number; all if there are none."""
    resume: bool = False
    """Go on with a run that was stopped: its networks are not trained again."""
    out: Path = Path("runs/tune-fiun")
    """Where networks and results go."""


GRIDS: dict[str, tuning.Grid] = {
    "repaired": {
        "alpha": (0.1, 0.03, 0.01),
        "strength": (3e-2, 3e-3),
        "deep_alpha": (0.9, 0.7, 0.5),
    },
    "folded": {"redistribution": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
}


def main(config: Tune) -> None:
    """Run the grids and write every point, the best first."""
    console, start = Console(), time.perf_counter()
    preset = networks.PRESETS[config.preset]
    record = {
        "preset": config.preset,
        "seeds": config.seeds,
        "settings": config.settings,
        "recipe": preset.record(),
    }
    runs.open_folder(config.out, record, config.resume)
    bench = fiun_bench.Bench.create(preset, config.seeds, tuning=True)
    points = {name: tuning.points(GRIDS[name], config.points) for name in config.rules}
    configs = {
        f"{name}/{place}": dataclasses.replace(
            fiun_bench.CONFIGS[f"fiun/{name}"], **point
        )
        for name, of_grid in points.items()
        for place, point in enumerate(of_grid)
    }
    found: dict[str, list] = {name: [] for name in configs}
    for setting in config.settings:
        cases = [
            networks.class_case(setting, preset, bench.data, (label,))
            for label in preset.classes
        ]
        trained = networks.train(
            preset,
            bench.classifier,
            bench.data,
            cases,
            bench.keys,
            config.out / setting,
        )
        for case, models in zip(cases, trained, strict=True):
            for regime in networks.REGIMES:
                console.log(f"{setting} {case.name} {regime}")
                given, retrained = models[regime], models["retrained"]
                answers = fiun_bench.answer(
                    bench, case, regime, given, tuple(configs), configs
                )
                metrics = fiun_bench.measure(
                    bench, case, regime, given, retrained, answers, relearn=False
                )
                for (method, _), of_node in metrics.items():
                    if method in found:
                        found[method].append(of_node)
    rows = []
    for name, of_grid in points.items():
        ranked = []
        for place, point in enumerate(of_grid):
            of_nodes = found[f"{name}/{place}"]
            score = {"score": _score(name, of_nodes)}
            ranked.append(tuning.Point(point, fiun_bench.summary(of_nodes), score))
        ranked.sort(key=_order)
        rows += tuning.rows(
            f"fiun/{name}",
            ranked,
            lambda place: place == 0,
            dataset=preset.dataset,
            model=preset.model,
            scenario="class",
            request="each class",
            access=hf.Access(unlearn=frozenset({"forget", "classes"})),
        )
    runs.write(config, rows, record, start, references=False)
    console.print(tuning.table(rows, ["forget_accuracy_test", "js_to_own_oracle"]))


def _order(point: tuning.Point) -> tuple[float, float]:
    apart = point.metrics["js_to_own_oracle"].mean()
    return -round(point.factors["score"], 3), round(float(apart), 4)


def _score(name: str, requests: list[dict]) -> float:
    if name == "folded":
        # Divergence alone decides.
        return 0.0
    each = [
        (1 - one["forget_accuracy_test"]) * one["retain_accuracy_test"]
        for one in requests
    ]
    return float(np.min(each, axis=0).mean())


if __name__ == "__main__":
    main(tyro.cli(Tune))
