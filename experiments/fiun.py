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
from collections.abc import Container, Mapping
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
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import inheritance

SCENARIOS = ("class", "classes", "two_roots", "rows")
DEPTHS = ("incremental_30", "federated_50")
# Speed is benchmarks/fiun.py's.
NOT_TIMED = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}


@dataclasses.dataclass(frozen=True)
class FIUn:
    """Forget in networks of models, and measure every node."""

    preset: str = "digits"
    """Data, classifier and recipe: digits, mnist, cifar10_small or cifar10."""
    seeds: int = 5
    """Training seeds, of the networks and of their retrained counterparts."""
    settings: tuple[str, ...] = (*networks.SETTINGS, *DEPTHS)
    """The networks."""
    scenarios: tuple[str, ...] = SCENARIOS
    """What is asked of networks that are not deep: class (each of them), classes
    (triples), two_roots, rows."""
    resume: bool = False
    """Go on with a run that was stopped: settings that are done stay."""
    out: Path = Path("runs/fiun")
    """Where results and checkpoints go."""


def cases_of(setting: str, bench: Bench) -> list[networks.Case]:
    """Return the requests of a setting."""
    preset, data = bench.preset, bench.data
    made = [
        networks.class_case(setting, preset, data, (label,)) for label in preset.classes
    ]
    made += [
        networks.class_case(setting, preset, data, triple)
        for triple in ((0, 3, 6), (1, 4, 5))
    ]
    two = networks.two_roots_case(setting, preset, data)
    return [*made, *([two] if two else []), networks.rows_case(setting, preset, data)]


def methods_of(scenario: str) -> tuple[str, ...]:
    """Return the methods that can answer a scenario."""
    if scenario == "rows":
        return ("ascent", "finetune", "ssd", "fiun/published", "fiun/repaired")
    return (*BASELINES, *CONFIGS)


def run_setting(
    bench, setting: str, out: Path, console: Console, scenarios=SCENARIOS
) -> list[dict]:
    """Train and measure a setting; return all its rows."""
    cases = [case for case in cases_of(setting, bench) if case.scenario in scenarios]
    console.log(f"{setting}: training {len(cases)} cases, {bench.seeds} seeds")
    trained = networks.train(
        bench.preset, bench.classifier, bench.data, cases, bench.keys, out / setting
    )
    gathered: dict[tuple, list] = defaultdict(list)
    for case, models in zip(cases, trained, strict=True):
        for regime in networks.REGIMES:
            start = time.perf_counter()
            found = run_cell(bench, case, regime, models, methods_of(case.scenario))
            for (method, node), metrics in found.items():
                gathered[case.scenario, regime, method, node].append(metrics)
            if (case.name, regime) == ("3", "direct"):
                draw(case, found, out / f"{setting}.png")
            console.log(
                f"{setting} {case.name} {regime}: {time.perf_counter() - start:.0f} s"
            )
    names = cases[0].plans["retrained"].graph.names
    return _rows(bench, setting, gathered, {"class": names})


def run_cell(bench, case, regime: str, models, methods, *, relearn=True):
    """Answer one request in one regime, and measure every node."""
    answers = answer(bench, case, regime, models[regime], methods)
    return measure(
        bench,
        case,
        regime,
        models[regime],
        models["retrained"],
        answers,
        relearn=relearn,
    )


def draw(case, found, path: Path) -> None:
    """Draw the network before and after, by forget accuracy, mean over seeds."""
    graph = case.plans["direct"].graph

    def of(method):
        return {
            node: found[method, node]["forget_accuracy_test"].mean()
            if (method, node) in found
            else 0.0
            for node in graph.names
        }

    inheritance.draw(
        graph,
        of("original"),
        of("fiun/folded"),
        roots=tuple(case.requests["direct"]),
        path=path,
        title=f"Forget accuracy on test images of class {case.name}",
    )


def _rows(bench, setting, gathered, shown_in: Mapping[str, Container]) -> list[dict]:
    """Over all requests of a scenario, a row for all nodes together.

    And one for each node that ``shown_in`` names for the scenario.
    """
    rows = []
    networks_of: dict[tuple, dict[str, list]] = defaultdict(dict)
    for (scenario, regime, method, node), of_node in gathered.items():
        networks_of[scenario, regime, method][node] = of_node
    for (scenario, regime, method), nodes in networks_of.items():
        named = shown_in.get(scenario, ())
        shown = {n: summary(of_node) for n, of_node in nodes.items() if n in named}
        # All nodes of the network together.
        shown["all"] = summary([each for of_node in nodes.values() for each in of_node])
        for node, metrics in shown.items():
            rows.append(
                hf.report.results_row(
                    method,
                    by_seed(metrics),
                    dataset=bench.preset.dataset,
                    model=bench.preset.model,
                    scenario=scenario,
                    request=f"{setting} {regime}",
                    access=_access(bench.classifier, method),
                    seconds=NOT_TIMED,
                    factors={"setting": setting, "regime": regime, "node": node},
                )
            )
    return rows


def _access(classifier, method: str) -> hf.Access:
    if method in CONFIGS:
        return CONFIGS[method].access
    if method in ("original", "retrain", "ceiling"):
        reads = () if method == "original" else ("retain",)
        return hf.Access(unlearn=frozenset(reads))
    return studies.METHODS[method](classifier).access


def run_depth(bench, setting: str, out: Path, console: Console) -> list[dict]:
    """Run a deep network and one class: does forgetting wear off with depth?"""
    data, key = bench.data, jax.random.key(11)
    if setting == "incremental_30":
        plan = inheritance.incremental(key, data, length=30)
        shown = ("u0", "u1", "u15", "u29")
    else:
        plan = inheritance.federated_chain(key, data, length=25)
        shown = ("a0", "d0", "d12", "a24", "d24")
    request = hf.forget_classes(data, [3], num_classes=10)
    case = networks.case_of("depth", "3", request, plan)
    console.log(f"{setting}: training {len(plan.graph.names)} nodes")
    (models,) = networks.train(
        bench.preset, bench.classifier, data, [case], bench.keys, out / setting
    )
    gathered = {}
    for regime in networks.REGIMES:
        found = run_cell(bench, case, regime, models, ("logit_mask", *CONFIGS))
        for (method, node), metrics in found.items():
            gathered["depth", regime, method, node] = [metrics]
    return _rows(bench, setting, gathered, {"depth": shown})


def main(config: FIUn) -> None:
    """Run the study and write what it found."""
    console, start_of_run = Console(), time.perf_counter()
    studies.check_known("--settings", config.settings, (*networks.SETTINGS, *DEPTHS))
    studies.check_known("--scenarios", config.scenarios, SCENARIOS)
    if config.preset not in networks.PRESETS:
        raise SystemExit(
            f"--preset {config.preset!r} unknown; there are {list(networks.PRESETS)}."
        )
    if config.seeds < 2:
        raise SystemExit(f"--seeds must be at least 2, got {config.seeds}.")
    preset = networks.PRESETS[config.preset]
    record = json.loads(
        json.dumps(
            {
                "preset": config.preset,
                "seeds": config.seeds,
                "settings": config.settings,
                "scenarios": config.scenarios,
                "recipe": preset.record(),
                "configs": {
                    name: dataclasses.asdict(each) for name, each in CONFIGS.items()
                },
                "baselines": {name: studies.METHODS[name].hyper for name in BASELINES},
            }
        )
    )
    studies.open_folder(config.out, record, config.resume)
    bench = Bench.create(preset, config.seeds)
    rows, spent = [], 0.0
    for setting in config.settings:
        path = config.out / f"{setting}.json"
        if not path.exists():
            start = time.perf_counter()
            arguments = bench, setting, config.out, console
            if setting in DEPTHS:
                found = run_depth(*arguments)
            else:
                found = run_setting(*arguments, config.scenarios)
            document = {"rows": found, "seconds": time.perf_counter() - start}
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(document))
            draft.replace(path)
            # The next setting compiles programs of its own, and all take memory maps.
            jax.clear_caches()
        stored = json.loads(path.read_text())
        rows += stored["rows"]
        spent += stored["seconds"]
    # Settings that were done before took their time too.
    start_of_run = min(start_of_run, time.perf_counter() - spent)
    studies.write(config, rows, record, start_of_run)
    console.print(_table(rows))


def _table(rows) -> Table:
    """Networks as a whole, requests for one class."""
    table = Table("network", "method", "forget", "worst", "retain gap", "worst", "JS")
    for row in rows:
        metrics: Any = row["metrics"]
        if row["factors"]["node"] != "all" or row["scenario"] != "class":
            continue
        table.add_row(
            row["request"],
            row["method"],
            f"{metrics['forget_accuracy_test']['mean']:.4f}",
            f"{metrics['forget_accuracy_test_worst']['max']:.4f}",
            f"{metrics['retain_gap']['mean']:+.4f}",
            f"{metrics['retain_gap_worst']['min']:+.4f}",
            f"{metrics['js_to_oracle']['mean']:.4f}"
            if "js_to_oracle" in metrics
            else "",
        )
    return table


if __name__ == "__main__":
    main(tyro.cli(FIUn))
