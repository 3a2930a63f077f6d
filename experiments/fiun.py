"""Make whole networks of models forget, beside the same networks retrained.

    python experiments/fiun.py --preset digits --out runs/fiun-digits

Four settings (federated, data-parallel, incremental and transfer learning), each in two
regimes: ``direct``, where descendants were trained on the forgotten data too, and
``inherit``, where they merely descend from models that were. Requests for each class,
for several, for classes that came in by two roots, and for a random fiftieth of the
rows; and chains of depth. Every node is measured against the same node of the network
that was retrained without the data from the same keys.
"""

import dataclasses
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import networks
import study as studies
import tyro
from fiun_bench import (
    BASELINES,
    CONFIGS,
    Bench,
    answer,
    by_seed,
    measure,
    summary,
)
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import inheritance

# By deep network, the nodes that have rows of their own.
DEPTHS = {
    "incremental_30": ("u0", "u1", "u15", "u29"),
    "federated_50": ("a0", "d0", "d12", "a24", "d24"),
}
SCENARIOS = ("class", "classes", "two_roots", "rows", "depth")


@dataclasses.dataclass(frozen=True)
class FIUn:
    """Forget in networks of models, and measure every node."""

    preset: str = "digits"
    """Data, classifier and recipe: digits, mnist or cifar10_small."""
    seeds: int = 5
    """Training seeds, of the networks and of their retrained counterparts."""
    settings: tuple[str, ...] = (*networks.SETTINGS, *DEPTHS)
    """The networks."""
    scenarios: tuple[str, ...] = SCENARIOS
    """The kinds of requests."""
    resume: bool = False
    """Go on with a run that was stopped: settings that are done stay."""
    out: Path = Path("runs/fiun")
    """Where results and checkpoints go."""


def cases_of(setting: str, bench: Bench) -> list[networks.Case]:
    """Return the requests of a setting."""
    preset, data = bench.preset, bench.data
    if setting in DEPTHS:
        # One class, many generations: does forgetting wear off with depth?
        key = jax.random.key(11)
        plan = (
            inheritance.incremental(key, data, length=30)
            if setting == "incremental_30"
            else inheritance.federated_chain(key, data, length=25)
        )
        request = hf.forget_classes(data, [3], num_classes=10)
        return [networks.case_of("depth", "3", request, plan)]
    single = [(label,) for label in preset.classes]
    cases = [
        networks.class_case(setting, preset, data, labels)
        for labels in (*single, (0, 3, 6), (1, 4, 5))
    ]
    two = networks.two_roots_case(setting, preset, data)
    return [*cases, *([two] if two else []), networks.rows_case(setting, preset, data)]


def methods_of(scenario: str) -> tuple[str, ...]:
    """Return the methods that can answer a scenario."""
    if scenario == "rows":
        return ("ascent", "finetune", "ssd", "fiun/published", "fiun/repaired")
    baselines = BASELINES if scenario != "depth" else ("logit_mask",)
    return (*baselines, *CONFIGS)


def run_setting(
    bench: Bench, setting: str, config: FIUn, console: Console
) -> list[dict[str, Any]]:
    """Train and measure a setting; return all its rows."""
    cases = [c for c in cases_of(setting, bench) if c.scenario in config.scenarios]
    console.log(f"{setting}: training {len(cases)} cases, {bench.seeds} seeds")
    folder = config.out / setting
    trained = networks.train(
        bench.preset, bench.classifier, bench.data, cases, bench.keys, folder
    )
    # By scenario, regime and method, then by node: metrics of each request.
    gathered: dict[tuple, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for case, models in zip(cases, trained, strict=True):
        for regime in networks.REGIMES:
            start = time.perf_counter()
            given, retrained = models[regime], models["retrained"]
            answers = answer(bench, case, regime, given, methods_of(case.scenario))
            found = measure(bench, case, regime, given, retrained, answers)
            for (method, node), metrics in found.items():
                gathered[case.scenario, regime, method][node].append(metrics)
            if (case.scenario, case.name, regime) == ("class", "3", "direct"):
                draw(case, found, config.out / f"{setting}.png")
            console.log(
                f"{setting} {case.name} {regime}: {time.perf_counter() - start:.0f} s"
            )
    rows = []
    for (scenario, regime, method), nodes in gathered.items():
        shown = nodes if scenario == "class" else DEPTHS.get(setting, ())
        found = {name: nodes[name] for name in shown if name in nodes}
        # All nodes of the network together.
        found["all"] = [each for of_node in nodes.values() for each in of_node]
        rows += [
            hf.report.results_row(
                method,
                by_seed(summary(of_node)),
                dataset=bench.preset.dataset,
                model=bench.preset.model,
                scenario=scenario,
                request=f"{setting} {regime}",
                access=_access(bench.classifier, method),
                seconds=studies.NOT_TIMED,  # Speed is benchmarks/fiun.py's.
                factors={"setting": setting, "regime": regime, "node": node},
            )
            for node, of_node in found.items()
        ]
    return rows


def draw(case: networks.Case, found, path: Path) -> None:
    """Draw the network before and after, by forget accuracy, mean over seeds."""
    names = case.plans["direct"].graph.names

    def of(method):
        metrics = {node: found.get((method, node)) for node in names}
        return {
            node: each["forget_accuracy_test"].mean() if each else 0.0
            for node, each in metrics.items()
        }

    inheritance.draw(
        case.plans["direct"].graph,
        of("original"),
        of("fiun/folded"),
        roots=tuple(case.requests["direct"]),
        path=path,
        title=f"Forget accuracy on test images of class {case.name}",
    )


def _access(classifier: hf.Classifier, method: str) -> hf.Access:
    if method in CONFIGS:
        return CONFIGS[method].access
    if method in ("original", "retrain", "ceiling"):
        return hf.Access(unlearn=set() if method == "original" else {"retain"})
    return studies.METHODS[method](classifier).access


def main(config: FIUn) -> None:
    """Run the study and write what it found."""
    console, start_of_run = Console(), time.perf_counter()
    runs.check_known("--settings", config.settings, (*networks.SETTINGS, *DEPTHS))
    runs.check_known("--scenarios", config.scenarios, SCENARIOS)
    runs.check_known("--preset", (config.preset,), networks.PRESETS)
    if config.seeds < 2:
        runs.refuse(f"--seeds must be at least 2, got {config.seeds}.")
    preset = networks.PRESETS[config.preset]
    record = {
        "preset": config.preset,
        "seeds": config.seeds,
        "settings": config.settings,
        "scenarios": config.scenarios,
        "recipe": preset.record(),
        "configs": {name: dataclasses.asdict(each) for name, each in CONFIGS.items()},
        "baselines": {name: studies.METHODS[name].hyper for name in BASELINES},
    }
    runs.open_folder(config.out, record, config.resume)
    bench = Bench.create(preset, config.seeds)
    rows, spent = [], 0.0
    for setting in config.settings:
        path = config.out / f"{setting}.json"
        if not path.exists():
            start = time.perf_counter()
            found = run_setting(bench, setting, config, console)
            document = {"rows": found, "seconds": time.perf_counter() - start}
            runs.keep(path, document)
            # The next setting compiles programs of its own, and all take memory maps.
            jax.clear_caches()
        stored = json.loads(path.read_text())
        rows += stored["rows"]
        spent += stored["seconds"]
    # Settings that were done before took their time too.
    runs.write(config, rows, record, min(start_of_run, time.perf_counter() - spent))
    for row in rows:
        if row["factors"]["node"] == "all":
            metrics: Any = row["metrics"]
            name = "forget_accuracy_train"
            console.print(
                f"{row['request']:24} {row['scenario']:9} {row['method']:24} "
                f"forget {metrics[name]['mean']:.3f}, "
                f"retain gap {metrics['retain_gap']['mean']:+.4f}"
            )


if __name__ == "__main__":
    main(tyro.cli(FIUn))
