"""Makes whole networks of models forget, beside the same networks retrained.

    python experiments/fiun.py --preset digits --out runs/fiun-digits

Four settings (federated, data-parallel, incremental and transfer learning), each in two
regimes: ``direct``, where descendants were trained on the forgotten data too, and
``inherit``, where they merely descend from models that were. Requests for each class,
for several, for classes that came in by two roots, and for a random fiftieth of the
rows; and chains of depth. Every node is measured against the same node of the network
that was retrained without the data from the same keys.
"""

import dataclasses
import functools
import json
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import networks
import numpy as np
import study as studies
import tyro
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import inheritance

DEPTHS = ("incremental_30", "federated_50")


@dataclasses.dataclass(frozen=True)
class FIUn:
    """Forget in networks of models, and measure every node."""

    preset: str = "digits"
    """Data, classifier and recipe: digits, mnist, cifar10_small or cifar10."""
    seeds: int = 5
    """Training seeds, of the networks and of their gold standards."""
    settings: tuple[str, ...] = (*networks.SETTINGS, *DEPTHS)
    """The networks."""
    resume: bool = False
    """Go on with a run that was stopped: settings that are done stay."""
    out: Path = Path("runs/fiun")
    """Where results and checkpoints go."""


RULES: dict[str, inheritance.Rule] = {
    "fiun/published": inheritance.rule("published"),
    "fiun/repaired": inheritance.rule("repaired"),
    "fiun/folded": inheritance.rule("folded"),
    # Without the layers before the head.
    "ablation/repaired-head": inheritance.rule("repaired", scope="head"),
    # Folded, and every layer before the head dampened as well.
    "ablation/folded+deep": inheritance.rule(
        "folded", scope="all", shares=True, match=True, only_columns=True
    ),
    # A fresh column behind the mask, and nothing folded.
    "ablation/unfolded": inheritance.rule("folded", fold=0.0),
}
RIVALS = ("logit_mask", "ascent", "finetune", "ssd")
# Speed is benchmarks/fiun.py's.
NOT_TIMED = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}
FORGET_ROWS = 256
RELEARN_ROWS = 128


@dataclasses.dataclass
class Bench:
    """What is measured with: a classifier, held-out rows, and compiled measures.

    Attributes:
        preset: of the study.
        classifier: one object, so that compilations are shared.
        data: training examples.
        test: held-out examples.
        seeds: training seeds.
        base: of the keys: tables use 0, tuning another.
    """

    preset: networks.Preset
    classifier: hf.Classifier
    data: hf.Examples
    test: hf.Examples
    seeds: int
    base: int = 0

    @classmethod
    def create(cls, preset: networks.Preset, seeds: int, *, tuning: bool = False):
        """The bench of tables, on test rows; or that of tuning, on the probe."""
        splits = hf.data.load(preset.dataset)
        base = 1_000 if tuning else 0
        held_out = splits.probe if tuning else splits.test
        count = min(preset.test_rows, held_out.y.shape[0])
        order = jax.random.permutation(
            jax.random.key(base + 13), splits.train.y.shape[0]
        )
        return cls(
            preset,
            preset.make(),
            splits.train.take(order[: preset.rows]),
            held_out.take(jnp.arange(count)),
            seeds,
            base,
        )

    @property
    def keys(self) -> jax.Array:
        return jax.random.split(jax.random.key(self.base), self.seeds)

    def key(self, *names: str) -> jax.Array:
        """A key of its own for whatever is named."""
        word = "/".join(names).encode()
        return jax.random.fold_in(jax.random.key(self.base + 1), zlib.crc32(word))

    @functools.cached_property
    def logits(self) -> Callable:
        return functools.partial(hf.evaluation.population_logits, self.classifier)

    @functools.cached_property
    def spread(self) -> Callable:
        """The library's unlearning of a graph, for all seeds at once."""

        def one(key, graph, requests, rule):
            return inheritance.forget(key, graph, self.classifier, requests, rule)

        return jax.jit(jax.vmap(one, (0, 0, None, None)))

    @functools.cached_property
    def registered(self) -> Callable:
        """Fishers of all nodes and seeds, one after the other."""

        @jax.jit
        def measure(variables, rows, data, rule):
            head = inheritance.find_head(
                self.classifier, _first(_first(variables)), data.x
            )

            def of_node(member):
                variables, rows = member
                return inheritance.measure(
                    self.classifier, variables, data.take(rows), rule, head
                )

            def of_seed(variables):
                return jax.lax.map(of_node, (variables, rows))

            return jax.lax.map(of_seed, variables)

        return measure

    @functools.cached_property
    def relearned(self) -> Callable:
        """Steps until each seed's model knows the forgotten rows again."""

        @jax.jit
        def steps(variables, forget, targets):
            def one(variables, target):
                return hf.evaluation.relearn(
                    self.classifier,
                    variables,
                    forget,
                    target_accuracy=target,
                    key=jax.random.key(3),
                )

            return jax.vmap(one)(variables, targets)

        return steps


def _first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


@jax.jit
def _distances(logits, gold, weight):
    """Divergence of every seed's model from every seed's gold, ``[S, S]``."""

    def one(z, g):
        return hf.losses.weighted_mean(hf.evaluation.jensen_shannon(z, g), weight)

    return jax.vmap(lambda z: jax.vmap(lambda g: one(z, g))(gold))(logits)


@jax.jit
def _accuracies(logits, y, weight):
    return jax.vmap(lambda z: hf.evaluation.accuracy(z, y, weight))(logits)


@jax.jit
def _losses(logits, y):
    return jax.vmap(lambda z: hf.losses.cross_entropy(z, y))(logits)


def _with_fishers(bench, graph, plan, rule):
    """The graph with the Fishers that a rule compares with."""
    if rule.scope == "none":
        return graph
    rows = [plan.rows_behind(node) for node in graph.names]
    size = max(map(len, rows))
    padded = np.full((len(rows), size), bench.data.y.shape[0], np.int32)
    for place, each in enumerate(rows):
        padded[place, : len(each)] = each
    models = graph.models["default"]
    found = bench.registered(models.variables, padded, bench.data, rule)
    return dataclasses.replace(graph, models={"default": models._replace(fisher=found)})


def _node_models(graph, place):
    """One node's variables, ``[S, ...]``."""
    return _at(graph.models["default"].variables, place)


def _at(variables, place):
    """A node's, of variables ``[S, M, ...]`` or of a dictionary by node."""
    if place in variables:
        return variables[place]
    return jax.tree.map(lambda leaf: leaf[:, place], variables)


def answer(bench, case, regime, graph, methods, rules=RULES):
    """Every method's models after the request: ``{method: variables [S, M, ...]}``."""
    requests = dict(case.requests[regime])
    plan = case.plans[regime]
    found: dict[str, Any] = {}
    bare = networks.skeleton(graph)
    keys = jax.random.split(bench.key(case.name, regime), bench.seeds)
    kept: dict[tuple, inheritance.Graph] = {}
    for name in methods:
        if name in rules:
            rule = rules[name]
            kind = (rule.scope, rule.estimator, rule.batch_size)
            if kind not in kept:
                kept[kind] = _with_fishers(bench, bare, plan, rule)
            models, _ = bench.spread(keys, kept[kind], requests, rule)
            found[name] = models["default"].variables
    # A rival answers for one node by itself, from the same rows.
    for name in methods:
        if name in rules:
            continue
        found[name] = {
            place: _rival(bench, case, regime, node, name, _node_models(graph, place))
            for place, node in enumerate(graph.names)
            if case.concerns(regime, node)
        }
    return found


def _rival(bench, case, regime, node, name, variables):
    """A method's models of one node, given its own rows and those that reach it."""
    size = bench.data.y.shape[0]
    own = np.zeros(size, bool)
    own[case.plans[regime].rows_behind(node)] = True
    asked = case.rows_at(regime, node)
    capacity = max(case.request.rows.shape[0], asked.size)
    rows = np.full(capacity, size, np.int32)
    rows[: asked.size] = asked
    own[asked] = True
    request = hf.ForgetRequest(
        bench.data._replace(weight=jnp.asarray(own, jnp.int32)),
        jnp.asarray(rows),
        jnp.asarray(case.classes_at(regime, node)),
    )
    keys = jax.random.split(bench.key(case.name, node, name), bench.seeds)
    return _unlearner(bench.classifier, name)(keys, variables, request)


@functools.cache
def _unlearner(classifier, name):
    unlearner = studies.METHODS[name](classifier)

    @jax.jit
    def run(keys, variables, request):
        def one(key, variables):
            key_init, key_unlearn = jax.random.split(key)
            state = unlearner.init(key_init, variables, request.data)
            return unlearner.unlearn(key_unlearn, state, request)[0].variables

        return jax.vmap(one)(keys, variables)

    return run


def measure(bench, case, regime, graph, gold, answers, *, relearn=True):
    """Metrics of every method and node that the request reaches.

    Returns:
        ``{(method, node): {metric: [seeds]}}``.
    """
    requested = np.flatnonzero(case.request.classes)
    test_y = np.asarray(bench.test.y)
    metrics: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for place, node in enumerate(graph.names):
        if not case.concerns(regime, node):
            continue
        forget = _forget_rows(bench, case.rows_at(regime, node))
        classes = np.flatnonzero(case.classes_at(regime, node))
        known = np.isin(test_y, case.plans["gold"].graph.node(node).classes)
        weights = {
            "forget": jnp.asarray(np.isin(test_y, classes), jnp.int32),
            "retain": jnp.asarray(known & ~np.isin(test_y, requested), jnp.int32),
        }
        subset = forget.take(jnp.arange(min(RELEARN_ROWS, FORGET_ROWS)))
        # An heir that no longer knows a class relearns it as its root knew it.
        teachers = [place] + [
            graph.names.index(root) for root in case.roots_of(regime, node)
        ]
        levels = [
            _accuracies(
                bench.logits(_node_models(graph, teacher), subset.x),
                subset.y,
                subset.weight,
            )
            for teacher in teachers
        ]
        targets = 0.95 * jnp.max(jnp.stack(levels), axis=0)
        golden = _node_models(gold, place)
        gold_forget = bench.logits(golden, forget.x)
        gold_test = bench.logits(golden, bench.test.x)
        gold_retain = _accuracies(gold_test, bench.test.y, weights["retain"])
        models = {
            "original": _node_models(graph, place),
            "retrain": golden,
            "ceiling": golden,
        }
        for name, variables in answers.items():
            models[name] = _at(variables, place)
        for name, variables in models.items():
            on_forget = bench.logits(variables, forget.x)
            on_test = bench.logits(variables, bench.test.x)
            found: dict[str, Any] = {}
            if classes.size:
                found["forget_accuracy_test"] = _accuracies(
                    on_test, bench.test.y, weights["forget"]
                )
            found["forget_accuracy_train"] = _accuracies(
                on_forget, forget.y, forget.weight
            )
            found["retain_accuracy_test"] = _accuracies(
                on_test, bench.test.y, weights["retain"]
            )
            found["retain_gap"] = found["retain_accuracy_test"] - gold_retain
            if name != "retrain":
                distances = np.asarray(
                    _distances(on_forget, gold_forget, forget.weight)
                )
                # As for the ceiling: the gold of the same keys is a near twin.
                found["js_to_oracle"] = _without_diagonal(distances).mean(axis=1)
                if name != "ceiling":
                    found["js_to_own_oracle"] = np.diagonal(distances)
            found["mia_auc"] = _membership(
                bench, on_forget, on_test, forget, weights, classes
            )
            if classes.size and relearn:
                outcome = bench.relearned(variables, subset, targets)
                found["relearn_steps"], found["relearn_censored"] = outcome
            metrics[name, node] = {
                key: np.asarray(value, float) for key, value in found.items()
            }
    return metrics


def _without_diagonal(square: np.ndarray) -> np.ndarray:
    size = square.shape[0]
    return square[~np.eye(size, dtype=bool)].reshape(size, size - 1)


def _membership(bench, on_forget, on_test, forget, weights, classes) -> np.ndarray:
    """Area under the ROC of the loss: forgotten training rows against test rows."""
    inside = np.asarray(_losses(on_forget, forget.y))[:, np.asarray(forget.weight) > 0]
    outside = np.asarray(_losses(on_test, bench.test.y))
    chosen = weights["forget"] if classes.size else weights["retain"]
    outside = outside[:, np.asarray(chosen) > 0]
    return np.array(
        [hf.evaluation.auc(a, b) for a, b in zip(inside, outside, strict=True)]
    )


def _forget_rows(bench, rows: np.ndarray) -> hf.Examples:
    """Forgotten rows in random order, at most ``FORGET_ROWS``."""
    order = np.asarray(jax.random.permutation(jax.random.key(7), rows))
    padded = np.full(FORGET_ROWS, bench.data.y.shape[0], np.int32)
    padded[: min(order.size, FORGET_ROWS)] = order[:FORGET_ROWS]
    return bench.data.take(jnp.asarray(padded))


def cases_of(setting: str, bench: Bench) -> list[networks.Case]:
    """The requests of a setting."""
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
    """The methods that can answer a scenario."""
    if scenario == "rows":
        return ("ascent", "finetune", "ssd", "fiun/published", "fiun/repaired")
    return (*RIVALS, *RULES)


def run_setting(bench, setting: str, out: Path, console: Console) -> list[dict]:
    """All rows of a setting."""
    cases = cases_of(setting, bench)
    console.log(f"{setting}: training {len(cases)} cases, {bench.seeds} seeds")
    graphs = networks.train(
        bench.preset, bench.classifier, bench.data, cases, bench.keys, out / setting
    )
    gathered: dict[tuple, list] = defaultdict(list)
    for case, by_name in zip(cases, graphs, strict=True):
        for regime in networks.REGIMES:
            begun = time.perf_counter()
            graph = by_name[regime]
            answers = answer(bench, case, regime, graph, methods_of(case.scenario))
            found = measure(bench, case, regime, graph, by_name["gold"], answers)
            for (method, node), metrics in found.items():
                gathered[case.scenario, regime, method, node].append(metrics)
            if (case.name, regime) == ("3", "direct"):
                draw(graph, case, found, out / f"{setting}.png")
            console.log(
                f"{setting} {case.name} {regime}: {time.perf_counter() - begun:.0f} s"
            )
    return _rows(bench, setting, gathered, {"class": graphs[0]["gold"].names})


def draw(graph, case, found, path: Path) -> None:
    """The network before and after the request, by forget accuracy, mean over seeds."""

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
        shown["all"] = _over_nodes(nodes)
        for node, metrics in shown.items():
            rows.append(
                hf.evaluation.results_row(
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


def summary(requests: list[dict]) -> dict[str, np.ndarray]:
    """Over the requests of a scenario: means, and the worst of them, seed by seed."""
    summary = {
        name: np.mean([each[name] for each in requests], axis=0) for name in requests[0]
    }
    for name, worst in (("forget_accuracy_test", np.max), ("retain_gap", np.min)):
        if name in requests[0]:
            summary[f"{name}_worst"] = worst([each[name] for each in requests], axis=0)
    return summary


def _over_nodes(nodes: Mapping[str, list]) -> dict[str, np.ndarray]:
    """All nodes of the network together: means, and the worst request of any node."""
    return summary([each for of_node in nodes.values() for each in of_node])


def by_seed(metrics: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    seeds = len(next(iter(metrics.values())))
    return [
        # Five digits: files are read by people and kept for ever.
        {name: round(float(values[seed]), 5) for name, values in metrics.items()}
        for seed in range(seeds)
    ]


def _access(classifier, method: str) -> hf.Access:
    if method in RULES:
        return hf.fiun(
            classifier, "folded" if RULES[method].folds else "repaired"
        ).access
    if method in ("original", "retrain", "ceiling"):
        reads = () if method == "original" else ("retain",)
        return hf.Access(unlearn=frozenset(reads))
    return studies.METHODS[method](classifier).access


def run_depth(bench, setting: str, out: Path, console: Console) -> list[dict]:
    """A deep network, one class: does forgetting wear off with depth?"""
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
    (graphs,) = networks.train(
        bench.preset, bench.classifier, data, [case], bench.keys, out / setting
    )
    gathered = {}
    for regime in networks.REGIMES:
        methods = ("logit_mask", *RULES)
        answers = answer(bench, case, regime, graphs[regime], methods)
        found = measure(bench, case, regime, graphs[regime], graphs["gold"], answers)
        for (method, node), metrics in found.items():
            gathered["depth", regime, method, node] = [metrics]
    return _rows(bench, setting, gathered, {"depth": shown})


def main(config: FIUn) -> None:
    """Runs the study and writes what it found."""
    console, begun = Console(), time.perf_counter()
    unknown = sorted(set(config.settings) - {*networks.SETTINGS, *DEPTHS})
    if unknown:
        raise SystemExit(f"--settings {unknown} unknown.")
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
                "recipe": preset.record(),
                "rules": {
                    name: dataclasses.asdict(rule) for name, rule in RULES.items()
                },
                "rivals": {name: studies.METHODS[name].hyper for name in RIVALS},
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
            run = run_depth if setting in DEPTHS else run_setting
            found = run(bench, setting, config.out, console)
            document = {"rows": found, "seconds": time.perf_counter() - start}
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(document))
            draft.replace(path)
            # The next setting compiles programs of its own, and all take memory maps.
            jax.clear_caches()
        stored = json.loads(path.read_text())
        rows += stored["rows"]
        spent += stored["seconds"]
    document = hf.evaluation.results_document(
        rows,
        preset=config.preset,
        config=record,
        seconds=max(spent, time.perf_counter() - begun),
        repository=Path(__file__).parent,
    )
    hf.evaluation.write(config.out / "results.json", document)
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
