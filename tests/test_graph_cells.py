"""Graphs of models on the leaderboard: who is asked for what, and a small one."""

import copy
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import audits, inheritance, trees
from tests import scripts, toys

audit_scenes, graph_cells, tables = scripts.load(
    "audit_scenes", "graph_cells", "tables.leaderboard"
)
LABEL = 2


class Info(NamedTuple):
    failed_at: jax.Array


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    splits = hf.data.Splits(
        toys.points(50), toys.points(first_id=100), toys.points(first_id=200)
    )
    recipe = types.SimpleNamespace(load=lambda: splits)
    return audit_scenes.make(
        "inherited", recipe, tmp_path_factory.mktemp("scene"), label=LABEL
    )


def ids(examples):
    return np.asarray(examples.id)[np.asarray(examples.weight) > 0].tolist()


def test_rows_lie_node_by_node_and_shares_are_those_of_the_plan(scene):
    names = scene.plan.graph.names
    assert len(names) == audit_scenes.NODES
    assert scene.splits.train.y.size == 48
    shared = audit_scenes.shares(scene.request, len(names))
    for place, name in enumerate(names):
        own, wanted = (
            trees.take(shared, place),
            scene.plan.request_at(scene.request, name),
        )
        assert own.data.y.size == 8
        assert ids(own.data) == ids(wanted.data)
        assert sorted(ids(own.forget)) == sorted(ids(wanted.forget))
        assert ids(own.retain) == ids(wanted.retain)
        assert np.flatnonzero(own.classes).tolist() == [LABEL]
    asked = sorted(sum(map(ids, (trees.take(shared, m).forget for m in range(6))), []))
    assert asked == sorted(ids(scene.request.forget))
    assert scene.plan.roots(scene.request) == ("d", "s")


def test_node_by_node_is_each_node_alone_and_a_graph_fails_where_a_node_does(scene):
    def mean(examples):
        weight = examples.weight[:, None]
        return jnp.sum(weight * examples.x, axis=0) / jnp.sum(weight)

    def unlearn(key, state, request):
        first, seen = state["variables"], state["seen"]
        noise = jax.random.normal(key, first.shape)
        info = Info(jnp.where(seen[0] > 0, 3, -1))
        return {"variables": first + noise + seen - mean(request.forget)}, info

    alone = hf.Unlearner(
        lambda key, variables, data: {"variables": variables, "seen": mean(data)},
        unlearn,
        hf.Access(),
    )
    keys = jax.random.split(jax.random.key(0), 2)
    models = jnp.arange(36.0).reshape(6, 6)
    graph = audit_scenes.node_by_node(alone, 6)
    before = graph.init(keys[0], models, scene.splits.train)
    after, info = graph.unlearn(keys[1], before, scene.request)
    seen = []
    for place, name in enumerate(scene.plan.graph.names):
        request = scene.plan.request_at(scene.request, name)
        state = alone.init(keys[0], models[place], request.data)
        own = jax.random.split(keys[1], 6)[place]
        wanted = unlearn(own, state, request)[0]["variables"]
        # Sums of eight rows and of forty-eight that weigh zero.
        np.testing.assert_allclose(after["variables"][place], wanted, atol=1e-5)
        seen.append(float(state["seen"][0]))
    assert min(seen) < 0 < max(seen)
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
        {**apart, "audit": tables.WORST, "value": 4.321, "floor": 1.234}
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
    key_init, key_unlearn = jax.random.split(jax.random.key(2))
    state = unlearner.init(key_init, {"default": models}, plan.data(scene.splits.train))
    asked = plan.requests(scene.request)
    wanted = unlearner.unlearn(key_unlearn, state, asked)[0].variables["default"]
    graph = audit_scenes.at_roots(unlearner, plan.graph, tuple(asked))
    state = graph.init(key_init, models, scene.splits.train)
    found = graph.unlearn(key_unlearn, state, scene.request)[0].variables
    for own, other, old in zip(
        *map(jax.tree.leaves, (found, wanted, models)), strict=True
    ):
        # Sums of Fishers over eight rows and over forty-eight that weigh zero.
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
        assert not np.allclose(own, old)


@pytest.mark.slow
def test_a_small_leaderboard_of_graphs_is_shown_as_others_are(tmp_path):
    (pictures,) = scripts.load("leaderboard_pictures")
    options = ("--models", "5", "--scenarios", "inherited", "--no-timed")
    options += ("--out", str(tmp_path / "board"), "--methods", "retrain")
    first = scripts.run("leaderboard", *options)
    assert first.returncode == 0, first.stderr
    cell = tmp_path / "board" / "inherited" / "retrain" / "row.json"
    before = cell.read_text()
    more = ("logit_mask", "inheritance.fiun", "--resume")
    assert scripts.run("leaderboard", *options, *more).returncode == 0
    assert cell.read_text() == before
    document = hf.report.read_audit(tmp_path / "board" / "results.json")
    rows = {row["method"]: row for row in document["rows"]}
    assert set(rows) == {"retrain", "logit_mask", "inheritance.fiun"}
    apart = {
        method: {each["audit"]: each for each in row["audits"]}
        for method, row in rows.items()
    }
    for method, of in apart.items():
        one, worst = of[tables.AUDIT], of[tables.WORST]
        assert worst["value"] > one["value"]
        assert 0 < one["floor"] < one["original"] / 10
        # Nobody leaves a graph as it was, and retraining alone is near.
        assert (one["value"] < one["original"] / 10) == (method == "retrain")
    value = apart["inheritance.fiun"][tables.AUDIT]["value"]
    assert value < apart["retrain"][tables.AUDIT]["original"]
    for row in rows.values():
        metrics, before = row["metrics"], row["reference_metrics"]["original"]
        # All six models knew the class.
        assert before["forget_accuracy_test"]["mean"] > 0.8
        assert metrics["forget_accuracy_test"]["mean"] < 0.1
        lowest = metrics["retain_accuracy_test_worst_node"]["mean"]
        assert 0.8 < lowest < metrics["retain_accuracy_test"]["mean"]
    assert rows["inheritance.fiun"]["settings"] == dict(
        hf.recipes.load("fiun", "digits", "class").settings
    )
    assert "worst node" in tables.section(tmp_path / "board" / "results.json")
    figure = pictures.leaderboard(document)
    assert "inherited" in figure.axes[0].get_title()
