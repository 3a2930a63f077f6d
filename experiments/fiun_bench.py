"""Networks of models on the bench: every method's answer, and every node measured."""

import dataclasses
import functools
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import networks
import numpy as np
import study as studies
import tuning

import hyperforget_jax as hf
from hyperforget_jax import fisher, inheritance, metrics

# Rows of results keep the names that they were first given: folded is head_reassign.
CONFIGS: dict[str, fisher.FIUnConfig] = {
    "fiun/published": fisher.FIUnConfig.published(),
    "fiun/repaired": fisher.FIUnConfig(),
    "fiun/folded": fisher.FIUnConfig.head_reassign(),
    # Without the layers before the head.
    "ablation/repaired-head": fisher.FIUnConfig(scope="head"),
    # The head reassigned, and every layer before it dampened as well.
    "ablation/folded+deep": dataclasses.replace(
        fisher.FIUnConfig.head_reassign(),
        alpha=1.0,
        strength=1.0,
        deep_alpha=0.5,
        scope="all",
        by_share=True,
        match_trace=True,
        columns_only=True,
    ),
    # A fresh column behind the mask, and nothing redistributed.
    "ablation/unfolded": dataclasses.replace(
        fisher.FIUnConfig.head_reassign(), redistribution=0.0
    ),
}
NUMBERS = ("alpha", "strength", "deep_alpha", "deep_strength", "redistribution")
BASELINES = ("logit_mask", "ascent", "finetune", "ssd")
FORGET_ROWS = 256
RELEARN_ROWS = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """What is measured with: a classifier, and held-out rows.

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
        """Make the bench of tables, on test rows; or that of tuning, on the probe."""
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
        """Make a key of its own for whatever is named."""
        word = "/".join(names).encode()
        return jax.random.fold_in(jax.random.key(self.base + 1), zlib.crc32(word))


@functools.cache
def _fiun(graph, classifier, config):
    """FIUn of all seeds at once, jitted; its numbers are arguments, and few compile."""

    def unlearner(numbers):
        changed = dataclasses.replace(config, **numbers)
        return inheritance.fiun(graph, classifier, changed)

    @jax.jit
    def init(models, data):
        # One network after the other, to hold one's activations at once.
        key = jax.random.key(0)
        return jax.lax.map(
            lambda v: unlearner({}).init(key, {"default": v}, data), models
        )

    @jax.jit
    def unlearn(keys, states, requests, numbers):
        answer = jax.vmap(unlearner(numbers).unlearn, (0, 0, None))
        return answer(keys, states, requests)[0].variables["default"]

    return init, unlearn


def answer(bench, case, regime, models, methods, configs=CONFIGS):
    """Answer a request by every method.

    Returns:
        ``{method: variables [S, M, ...]}``; of baselines a dictionary by place, each
        ``[S, ...]``.
    """
    requests, plan = dict(case.requests[regime]), case.plans[regime]
    graph = networks.bare(plan.graph)
    keys = jax.random.split(bench.key(case.name, regime), bench.seeds)
    data, found, states = plan.data(bench.data), {}, {}
    for name in methods:
        if name not in configs:
            # A baseline answers for one node by itself, from the same rows.
            found[name] = {
                place: _baseline(bench, case, regime, node, name, models, place)
                for place, node in enumerate(graph.names)
                if case.roots_of(regime, node)
            }
            continue
        config = configs[name]
        numbers = {n: getattr(config, n) for n in NUMBERS if getattr(config, n)}
        ones: dict[str, Any] = dict.fromkeys(numbers, 1.0)
        kind = dataclasses.replace(config, **ones)
        init, unlearn = _fiun(graph, bench.classifier, kind)
        measured = (kind.scope, kind.estimator, kind.batch_size, kind.reinitialise)
        if measured not in states:
            states[measured] = init(models, data)
        found[name] = unlearn(keys, states[measured], requests, numbers)
    return found


def node_of(models, place):
    """Return one node's, of variables ``[S, M, ...]`` or of a dictionary by place."""
    if place in models:
        return models[place]
    return jax.tree.map(lambda leaf: leaf[:, place], models)


def _baseline(bench, case, regime, node, name, models, place):
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
    unlearn = _unlearn_each(bench.classifier, name)
    return unlearn(keys, node_of(models, place), request)


@functools.cache
def _unlearn_each(classifier, name):
    unlearner = studies.METHODS[name](classifier)

    def one(key, variables, request):
        key_init, key_unlearn = jax.random.split(key)
        state = unlearner.init(key_init, variables, request.data)
        return unlearner.unlearn(key_unlearn, state, request)[0].variables

    return jax.jit(jax.vmap(one, (0, 0, None)))


_accuracies = jax.jit(jax.vmap(metrics.accuracy, (0, None, None)))
_losses = jax.jit(jax.vmap(hf.losses.cross_entropy, (0, None)))
_distances = jax.jit(
    functools.partial(metrics.pairwise_distances, metrics.jensen_shannon)
)


@functools.cache
def _relearn(classifier):
    """Steps until each seed's model knows the forgotten rows again."""

    def one(variables, forget, target):
        return metrics.relearn(
            classifier,
            variables,
            forget,
            target_accuracy=target,
            key=jax.random.key(3),
        )

    return jax.jit(jax.vmap(one, (0, None, 0)))


def measure(bench, case, regime, models, retrained, answers, *, relearn=True):
    """Measure every method at every node that the request reaches.

    Returns:
        ``{(method, node): {metric: [seeds]}}``.
    """
    logits_of = functools.partial(hf.models.population_logits, bench.classifier)
    requested = np.flatnonzero(case.request.classes)
    names = case.plans[regime].graph.names
    test, test_y = bench.test, np.asarray(bench.test.y)
    measured: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for place, node in enumerate(names):
        roots = case.roots_of(regime, node)
        if not roots:
            continue
        forget = _forget_rows(bench, case.rows_at(regime, node))
        classes = np.flatnonzero(case.classes_at(regime, node))
        known = np.isin(test_y, case.plans["retrained"].graph.node(node).classes)
        is_gone = jnp.asarray(np.isin(test_y, classes), jnp.int32)
        is_left = jnp.asarray(known & ~np.isin(test_y, requested), jnp.int32)
        subset = forget.take(jnp.arange(min(RELEARN_ROWS, FORGET_ROWS)))
        # A descendant that no longer knows a class relearns it as its root knew it.
        levels = [
            _accuracies(
                logits_of(node_of(models, teacher), subset.x), subset.y, subset.weight
            )
            for teacher in [place, *(names.index(root) for root in roots)]
        ]
        targets = 0.95 * jnp.max(jnp.stack(levels), axis=0)
        reference = node_of(retrained, place)
        reference_forget = logits_of(reference, forget.x)
        reference_retain = _accuracies(logits_of(reference, test.x), test.y, is_left)
        judged = {
            "original": node_of(models, place),
            "retrain": reference,
            "ceiling": reference,
            **{name: node_of(found, place) for name, found in answers.items()},
        }
        for name, variables in judged.items():
            on_forget = logits_of(variables, forget.x)
            on_test = logits_of(variables, test.x)
            found: dict[str, Any] = {}
            if classes.size:
                found["forget_accuracy_test"] = _accuracies(on_test, test.y, is_gone)
            found["forget_accuracy_train"] = _accuracies(
                on_forget, forget.y, forget.weight
            )
            found["retain_accuracy_test"] = _accuracies(on_test, test.y, is_left)
            found["retain_gap"] = found["retain_accuracy_test"] - reference_retain
            if name != "retrain":
                apart = _distances(on_forget, reference_forget, forget.weight)
                # As for the ceiling: what was retrained by the same keys is a twin.
                others = ~np.eye(bench.seeds, dtype=bool)
                found["js_to_oracle"] = (
                    np.asarray(apart)[others].reshape(bench.seeds, -1).mean(axis=1)
                )
                if name != "ceiling":
                    found["js_to_own_oracle"] = np.diagonal(apart)
            found["mia_auc"] = _membership(
                on_forget, on_test, forget, test, is_gone if classes.size else is_left
            )
            if classes.size and relearn:
                outcome = _relearn(bench.classifier)(variables, subset, targets)
                found["relearn_steps"], found["relearn_censored"] = outcome
            measured[name, node] = {
                key: np.asarray(value, float) for key, value in found.items()
            }
    return measured


def _membership(on_forget, on_test, forget, test, chosen) -> np.ndarray:
    """Area under the ROC of the loss: forgotten training rows against test rows."""
    inside = np.asarray(_losses(on_forget, forget.y))[:, np.asarray(forget.weight) > 0]
    outside = np.asarray(_losses(on_test, test.y))[:, np.asarray(chosen) > 0]
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
    """Summarise several requests: means, and the worst of them, seed by seed."""
    summary = {
        name: np.mean([each[name] for each in requests], axis=0) for name in requests[0]
    }
    for name, worst in (("forget_accuracy_test", np.max), ("retain_gap", np.min)):
        if name in requests[0]:
            summary[f"{name}_worst"] = worst([each[name] for each in requests], axis=0)
    return summary


def by_seed(found: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """Return metrics seed by seed, to five digits: people read the files."""
    return [
        {name: round(value, 5) for name, value in one.items()}
        for one in tuning.by_seed(found)
    ]
