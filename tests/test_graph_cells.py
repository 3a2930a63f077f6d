"""Graphs of models on the leaderboard: who is asked for what, and a small one."""

import copy
import dataclasses
import functools
import types
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import audits, inheritance
from tests import scripts, toys

audit, audit_scenes, graph_cells, pictures, recipes, tables = scripts.load(
    *("audit", "audit_scenes", "graph_cells", "leaderboard_pictures", "recipes"),
    "tables.leaderboard",
)
LABEL = 2


class Info(NamedTuple):
    failed_at: jax.Array


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    splits = hf.data.Splits(*(toys.points(first_id=first) for first in (0, 100, 200)))
    recipe = types.SimpleNamespace(load=lambda: splits)
    return audit_scenes.make(
        "inherited", recipe, tmp_path_factory.mktemp("scene"), label=LABEL
    )


def test_rows_lie_node_by_node_and_shares_are_those_of_the_plan(scene):
    plan, train = scene.plan, scene.splits.train
    ids, labels = np.asarray(train.id), np.asarray(train.y)
    # Four of forty rows are left out, so that all have as many.
    assert plan.rows.sum(axis=1).tolist() == [6] * audit_scenes.NODES
    assert (plan.rows.sum(axis=0) == 1).all() and len(set(ids)) == 36
    data, rows, classes = jax.device_get(audit_scenes.shares(scene.request, 6))
    for place, name in enumerate(plan.graph.names):
        np.testing.assert_array_equal(data.id[place], ids[plan.rows[place]])
        asked = rows[place][rows[place] < 6]
        wanted = np.asarray(plan.request_at(scene.request, name).rows)
        assert sorted(data.id[place][asked]) == sorted(ids[wanted[wanted < 36]])
        assert np.flatnonzero(classes[place]).tolist() == [LABEL]
    assert sum(np.sum(rows < 6, axis=1)) == np.sum(labels == LABEL) > 6
    assert plan.roots(scene.request) == ("d", "s")


def test_node_by_node_is_each_node_alone_and_a_graph_fails_where_a_node_does(scene):
    def mean(examples):
        weight = examples.weight[:, None]
        return jnp.sum(weight * examples.x, axis=0) / jnp.sum(weight)

    def init(key, variables, data):
        return {"variables": variables, "seen": mean(data), "key": key}

    def unlearn(key, state, request):
        gone = mean(request.forget)
        info = Info(jnp.where(gone[0] > first, 3, -1))
        return {**state, "variables": state["variables"] + gone, "key": key}, info

    request, plan = scene.request, scene.plan
    x, labels = np.asarray(request.data.x), np.asarray(request.data.y)
    models = np.arange(36.0, dtype=np.float32).reshape(6, 6)
    wanted = plan.rows & (labels == LABEL)
    holders = wanted.any(axis=1)
    means = np.array([x[rows].mean(axis=0) for rows in wanted[holders]])
    first = np.sort(means[:, 0])[-2]
    graph = audit_scenes.node_by_node(hf.Unlearner(init, unlearn, hf.Access()), 6)
    key = jax.random.key(0)
    before = graph.init(key, models, request.data)
    seen = [x[rows].mean(axis=0) for rows in plan.rows]
    np.testing.assert_allclose(before["seen"], seen, rtol=1e-4, atol=1e-5)
    after, info = graph.unlearn(key, before, request)
    # Means of single precision.
    changed = np.asarray(after["variables"])[holders]
    np.testing.assert_allclose(changed, models[holders] + means, rtol=1e-5, atol=1e-4)
    assert len(np.unique(jax.random.key_data(after["key"]), axis=0)) == 6
    assert int(info.failed_at) == 3


def test_the_worst_node_is_that_of_each_kind_of_graphs():
    found = graph_cells.worst(
        [
            audits.Audited("mean confidence", 2.0, (1, 3), 0.1, 9.0, 0.01),
            audits.Audited("mean confidence", 5.0, (4, 6), 0.2, 8.0, 0.01),
        ]
    )
    assert found == audits.Audited("mean confidence, worst node", 5, None, 0.2, 9)
    by_node = [
        {"retain": np.array([0.9, 0.7]), "forget": np.array([0.0, 0.2])},
        {"retain": np.array([0.5, 0.9]), "forget": np.array([0.4, 0.4])},
    ]
    means = graph_cells.means(by_node, "retain")
    np.testing.assert_allclose(means["retain"], [0.7, 0.8])
    np.testing.assert_allclose(means["forget"], [0.2, 0.3])
    np.testing.assert_allclose(means["retain_worst_node"], [0.5, 0.9])


def test_tables_show_the_worst_node_where_there_is_one():
    document = hf.report.read_audit(tables.RESULTS / "leaderboard-digits.json")
    row = copy.deepcopy(document["rows"][0])
    assert "worst node" not in tables.scenario([row])
    (apart,) = (each for each in row["audits"] if each["audit"] == tables.AUDIT)
    row["audits"].append(
        {**apart, "audit": tables.WORST_NODE, "value": 4.321, "floor": 1.234}
    )
    row["metrics"]["retain_accuracy_test_worst_node"] = {"mean": 0.5432}
    for of in row["reference_metrics"].values():
        of["retain_accuracy_test_worst_node"] = {"mean": 0.9}
    heads, _, _, retrained, own = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in tables.scenario([row]).splitlines()
        if line.startswith("|")
    )
    assert own[heads.index("worst node, nats")] == "4.32"
    assert retrained[heads.index("worst node, nats")] == "1.23"
    assert own[heads.index("retained, worst node")] == "54.3"
    assert len(heads) == len(own) == len(retrained)


@pytest.mark.slow
def test_a_graph_asked_at_its_roots_is_the_graph_of_the_library(scene):
    classifier, plan = toys.softmax_regression(), scene.plan
    keys = jax.random.split(jax.random.key(1), 6)
    models = jax.vmap(classifier.init, (0, None))(keys, scene.splits.train.x)
    unlearner = inheritance.fiun(plan.graph, classifier)
    asked = plan.requests(scene.request)
    graph = audit_scenes.at_roots(unlearner, plan.graph, tuple(asked))

    @functools.partial(jax.jit, static_argnums=0)
    def answer(unlearner, variables, data, request):
        state = unlearner.init(keys[0], variables, data)
        return unlearner.unlearn(keys[1], state, request)[0].variables

    train = scene.splits.train
    wanted = answer(unlearner, {"default": models}, plan.data(train), asked)
    found = answer(graph, models, train, scene.request)
    for own, other in zip(
        *map(jax.tree.leaves, (found, wanted["default"])), strict=True
    ):
        # Sums of Fishers over six rows, and over others that weigh zero.
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
    kernel, before = (of["params"]["Dense_0"]["kernel"] for of in (found, models))
    assert (np.abs(kernel - before).max(axis=(1, 2)) > 1e-3).all()


@dataclasses.dataclass(frozen=True)
class Tiny(recipes.Recipe):
    """Softmax regressions on points, five of each class at every node."""

    @property
    def classifier(self):
        return toys.softmax_regression()

    def load(self):
        return hf.data.Splits(
            *(toys.points(120, first_id=first) for first in (0, 200, 400))
        )


@pytest.mark.slow
def test_a_small_leaderboard_of_graphs_is_shown_as_others_are(tmp_path):
    tiny = Tiny("digits", (), 0.1, 0.3, 400, 16, "softmax")
    options = ("--models", "5", "--scenarios", "inherited", "--no-timed", "--methods")
    options += ("retrain", "logit_mask", "inheritance.fiun", "--out", str(tmp_path))
    with mock.patch.dict(audit.RECIPES, digits=tiny):
        first = scripts.run("leaderboard", *options)
        assert first.returncode == 0, first.stderr
        cell = tmp_path / "inherited" / "retrain" / "row.json"
        before = cell.stat().st_mtime_ns
        assert scripts.run("leaderboard", *options, "--resume").returncode == 0
        assert cell.stat().st_mtime_ns == before
    document = hf.report.read_audit(tmp_path / "results.json")
    rows = {row["method"]: row for row in document["rows"]}
    assert set(rows) == {"retrain", "logit_mask", "inheritance.fiun"}
    for method, row in rows.items():
        of = {each["audit"]: each for each in row["audits"]}
        one, worst = of[tables.AUDIT], of[tables.WORST_NODE]
        assert worst["value"] > one["value"]
        assert worst["original"] > one["original"]
        assert 0 < one["floor"] < one["original"] / 4
        # Nobody leaves a graph as it was, and retraining alone is near.
        assert one["value"] != pytest.approx(one["original"], rel=0.1)
        assert (one["value"] < one["original"] / 4) == (method == "retrain")
        metrics, references = row["metrics"], row["reference_metrics"]
        # All six models knew the class; one that never saw it may still guess it.
        known = references["original"]["forget_accuracy_train"]["mean"]
        assert known > 0.8
        assert references["retrained"]["forget_accuracy_train"]["mean"] < 0.6
        assert metrics["forget_accuracy_train"]["mean"] < 0.6
        lowest = metrics["retain_accuracy_test_worst_node"]["mean"]
        assert lowest < metrics["retain_accuracy_test"]["mean"]
    chosen = hf.recipes.load("fiun", "digits", "class").settings
    assert rows["inheritance.fiun"]["settings"] == chosen
    assert "worst node" in tables.section(tmp_path / "results.json")
    figure = pictures.leaderboard(document)
    assert "inherited" in figure.axes[0].get_title()
