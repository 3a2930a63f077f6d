"""Networks of models on the bench: every method's answer, and every node measured."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import networks
import numpy as np
import study as studies

import hyperforget_jax as hf
from hyperforget_jax import inheritance

CONFIGS: dict[str, fisher.FIUnConfig] = {
    # Rows of results keep the names that they were first given.
    "fiun/published": fisher.PUBLISHED,
    "fiun/repaired": fisher.REPAIRED,
    "fiun/folded": fisher.HEAD_REASSIGN,
    # Without the layers before the head.
    "ablation/repaired-head": fisher.FIUnConfig(scope="head"),
    # The head reassigned, and every layer before it dampened as well.
    "ablation/folded+deep": dataclasses.replace(
        fisher.HEAD_REASSIGN,
        **DEEP,
        scope="all",
        by_share=True,
        match_trace=True,
        columns_only=True,
    ),
    # A fresh column behind the mask, and nothing redistributed.
    "ablation/unfolded": dataclasses.replace(fisher.HEAD_REASSIGN, redistribution=0.0),
}
NUMBERS = ("alpha", "strength", "deep_alpha", "deep_strength", "redistribution")
RIVALS = ("logit_mask", "ascent", "finetune", "ssd")
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
        return functools.partial(hf.models.population_logits, self.classifier)

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
                return hf.metrics.relearn(
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
        return hf.losses.weighted_mean(hf.metrics.jensen_shannon(z, g), weight)

    return jax.vmap(lambda z: jax.vmap(lambda g: one(z, g))(gold))(logits)


@jax.jit
def _accuracies(logits, y, weight):
    return jax.vmap(lambda z: hf.metrics.accuracy(z, y, weight))(logits)


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


def summary(requests: list[dict]) -> dict[str, np.ndarray]:
    """Over the requests of a scenario: means, and the worst of them, seed by seed."""
    summary = {
        name: np.mean([each[name] for each in requests], axis=0) for name in requests[0]
    }
    for name, worst in (("forget_accuracy_test", np.max), ("retain_gap", np.min)):
        if name in requests[0]:
            summary[f"{name}_worst"] = worst([each[name] for each in requests], axis=0)
    return summary


def over_nodes(nodes: Mapping[str, list]) -> dict[str, np.ndarray]:
    """All nodes of the network together: means, and the worst request of any node."""
    return summary([each for of_node in nodes.values() for each in of_node])


def by_seed(metrics: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    seeds = len(next(iter(metrics.values())))
    return [
        # Five digits: files are read by people and kept for ever.
        {name: round(float(values[seed]), 5) for name, values in metrics.items()}
        for seed in range(seeds)
    ]
