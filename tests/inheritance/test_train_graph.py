"""Networks trained for real: against one node alone, and what training refuses."""

import dataclasses
import functools
import zlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import inheritance, trees
from hyperforget_jax.inheritance import Edge, Plan
from hyperforget_jax.models.head import centre_head
from tests import toys

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow

OPTIMIZER, STEPS, BATCH = optax.sgd(0.1), 15, 16
KEYS = jax.random.split(jax.random.key(1), 2)
DATA = toys.points(160)
Y = np.asarray(DATA.y)
FROZEN = ("Dense_0", "BatchNorm_0/scale")


def train_networks(plans, classifier, keys=KEYS[:1], data=DATA, **options):
    return inheritance.train_networks(
        keys,
        classifier,
        data,
        plans,
        OPTIMIZER,
        STEPS,
        batch_size=BATCH,
        progress=False,
        **options,
    )


@functools.cache
def world():
    """A network with BatchNorm and the same retrained, two seeds.

    ``d`` and ``s`` never see class 1; ``r`` goes on from their mean, ``still`` from
    ``d`` with a frozen backbone, and nobody trains ``mean``.
    """
    classifier = toys.normalised()
    place = np.random.default_rng(0).permutation(160) % 4
    seen = {
        "d": (place == 0) & (Y != 1),
        "s": (place == 1) & (Y != 1),
        "r": place == 2,
        "still": place == 3,
        "mean": np.zeros(160, bool),
    }
    edges = [
        Edge("d", "r", "average", 0.25),
        Edge("s", "r", "average", 0.75),
        Edge("d", "still", "transfer", frozen=FROZEN),
        Edge("d", "mean", "average", 0.25),
        Edge("r", "mean", "average", 0.75),
    ]
    plan = Plan.create(DATA, seen, edges)
    request = hf.forget_classes(DATA, [1])
    plans = [plan, plan.without(request)]
    return classifier, plans, train_networks(plans, classifier, KEYS)


@functools.cache
def alone():
    """``(key, start, weight) -> variables``, by ``hf.fit``."""
    classifier = world()[0]

    @jax.jit
    def fit(key, start, weight):
        data = DATA._replace(weight=weight)
        return hf.fit(
            key, classifier, data, OPTIMIZER, STEPS, batch_size=BATCH, start=start
        )

    return fit


def key_of(index, name):
    return jax.random.fold_in(KEYS[index], zlib.crc32(name.encode()))


def assert_trained_alone(which, index, name, start):
    _, plans, models = world()
    plan = plans[which]
    known = plan.graph.node(name).classes
    start = {**start, "output_mask": ~jnp.isin(jnp.arange(4), jnp.array(known))}
    weight = jnp.asarray(plan.rows[plan.graph.names.index(name)], jnp.int32)
    # Batched products sum in another order, and 15 steps carry that on.
    chex.assert_trees_all_close(
        plan.graph.take(trees.take(models[which], index), name),
        alone()(key_of(index, name), start, weight),
        rtol=1e-3,
        atol=2e-5,
    )


def test_a_node_without_parents_is_a_fit_of_its_own():
    classifier, _, _ = world()
    for which, index, name in ((0, 0, "d"), (1, 1, "s")):
        start = jax.jit(classifier.init)(key_of(index, name), DATA.x)
        assert_trained_alone(which, index, name, start)


def of(which, index, name):
    """One node's variables of one plan and seed."""
    _, plans, models = world()
    return plans[which].graph.take(trees.take(models[which], index), name)


def mean_of(which, index, *parents):
    """A quarter of the first and three of the second, without their masks."""
    bare = [
        {k: v for k, v in of(which, index, p).items() if k != "output_mask"}
        for p in parents
    ]
    assert (bare[0]["batch_stats"]["BatchNorm_0"]["mean"] != 0).any()
    return jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, *map(jax.device_get, bare))


@pytest.mark.parametrize(("which", "index"), [(0, 0), (0, 1), (1, 0)])
def test_a_child_goes_on_from_the_mean_of_its_parents(which, index):
    """Normalisation statistics are averaged like weights."""
    assert_trained_alone(which, index, "r", mean_of(which, index, "d", "s"))


def test_a_node_without_rows_is_the_mean_of_its_parents():
    for which, plan in enumerate(world()[1]):
        found = dict(of(which, 1, "mean"))
        assert plan.graph.node("mean").data == ""
        np.testing.assert_array_equal(
            found.pop("output_mask"), of(which, 1, "r")["output_mask"]
        )
        # Two products and a sum.
        expected = mean_of(which, 1, "d", "r")
        chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-7)


def test_a_node_is_drawn_from_its_name_whatever_the_plan():
    _, plans, (original, _) = world()
    for index in range(2):
        for name in plans[0].graph.names:
            pair = [of(which, index, name) for which in (0, 1)]
            assert jax.tree.structure(pair[0]) == jax.tree.structure(pair[1])
            same = jax.tree.map(lambda a, b: bool((a == b).all()), *pair)
            # d and s never saw the class, and inherit from nobody.
            assert all(jax.tree.leaves(same)) == (name in ("d", "s"))
    kernel = original["default"]["params"]["Dense_0"]["kernel"]
    assert kernel.shape[:2] == (2, 5) and (kernel[0] != kernel[1]).any()


def test_heads_are_masked_to_the_known_classes():
    classifier, plans, _ = world()
    apply = jax.jit(classifier.apply)
    for which, plan in enumerate(plans):
        for name in plan.graph.names:
            variables = of(which, 0, name)
            known = np.flatnonzero(~np.asarray(variables["output_mask"])).tolist()
            assert tuple(known) == plan.graph.node(name).classes
            found = np.asarray(apply(variables, DATA.x)).argmax(axis=1)
            assert set(found.tolist()) <= set(known)
    original, retrained = (plan.graph for plan in plans)
    assert retrained.node("r").classes == retrained.node("mean").classes == (0, 2, 3)
    assert original.node("d").classes == (0, 2, 3)
    assert original.node("mean").classes == (0, 1, 2, 3)


def test_what_is_frozen_does_not_move_by_a_bit():
    parent, child = of(0, 0, "d"), of(0, 0, "still")
    chex.assert_trees_all_equal(child["batch_stats"], parent["batch_stats"])
    before, after = (trees.by_path(each["params"]) for each in (parent, child))
    moved = {path: bool((after[path] != leaf).any()) for path, leaf in before.items()}
    assert moved == {
        "Dense_0/kernel": False,
        "Dense_0/bias": False,
        "BatchNorm_0/scale": False,
        "BatchNorm_0/bias": True,
        "Dense_1/kernel": True,
        "Dense_1/bias": True,
    }


# The class of each column: the narrow head lacks class 2, in an order of its own.
COLUMNS = {"wide": (0, 1, 2, 3), "narrow": (3, 1, 0)}


@functools.cache
def heads_of_two_widths():
    """``(classifiers, plan, graph, models, config)``: a wide root, a narrow child."""
    narrow = hf.from_linen(hf.models.MLP((5,), 3))
    classifiers = {
        "wide": toys.perceptron(),
        "narrow": hf.models.widen(narrow, COLUMNS["narrow"], 4),
    }
    place = np.random.default_rng(0).permutation(160) % 2
    seen = {"u0": place == 0, "t1": (place == 1) & (Y != 2)}
    edges = [Edge("u0", "t1", "transfer", frozen=("Dense_0",))]
    kinds = {"u0": "wide", "t1": "narrow"}
    plan = Plan.create(DATA, seen, edges, architectures=kinds)
    graph, models = inheritance.train(
        KEYS[0],
        classifiers,
        DATA,
        plan,
        optax.adam(3e-2),
        60,
        batch_size=BATCH,
        progress=False,
        columns=COLUMNS,
    )
    config = hf.FIUnConfig(batch_size=BATCH, alpha=0.02)
    return classifiers, plan, graph, models, config


def accuracy(classifier, variables, classes):
    chosen = np.isin(Y, classes)
    found = np.asarray(classifier.apply(variables, DATA.x)).argmax(axis=1)
    return (found == Y)[chosen].mean()


def likelihood(classifier, variables, label):
    """How probable a class is found on its own examples."""
    found = jax.nn.softmax(classifier.apply(variables, DATA.x[Y == label]))
    return float(found[:, label].mean())


def test_heads_of_different_width_are_handed_down_by_class():
    classifiers, _, graph, models, _ = heads_of_two_widths()
    parent, child = (graph.take(models, name) for name in ("u0", "t1"))
    assert {node.seed for node in graph.nodes} != {0}
    assert child["params"]["Dense_1"]["kernel"].shape == (5, 3)
    chex.assert_trees_all_equal(child["params"]["Dense_0"], parent["params"]["Dense_0"])
    assert child["output_mask"].shape == (4,)
    logits = classifiers["narrow"].apply(child, DATA.x)
    assert logits.shape == (160, 4)
    assert np.argmax(logits, axis=1).tolist().count(2) == 0
    assert accuracy(classifiers["narrow"], child, [0, 1, 3]) > 0.9
    assert accuracy(classifiers["wide"], parent, range(4)) > 0.9
    # Begun from the parent's columns, it stays nearer to them than to other ones.
    old = parent["params"]["Dense_1"]["kernel"]
    new = child["params"]["Dense_1"]["kernel"]
    for place, label in enumerate(COLUMNS["narrow"]):
        distances = np.linalg.norm(old - new[:, place, None], axis=0)
        assert distances.argmin() == label


def test_a_graph_of_heads_of_different_width_forgets_at_every_node():
    classifiers, plan, graph, models, config = heads_of_two_widths()
    asked = plan.requests(hf.forget_classes(DATA, [1]))
    assert tuple(asked) == ("u0",)

    def answered(config):
        unlearner = inheritance.fiun(graph, classifiers, config, columns=COLUMNS)
        state = jax.jit(unlearner.init)(KEYS[1], models, plan.data(DATA))
        return state, *jax.jit(unlearner.unlearn)(KEYS[1], state, asked)

    before, after, info = answered(config)
    for name in ("u0", "t1"):
        model = classifiers[graph.node(name).architecture]
        known = likelihood(model, graph.take(models, name), 1)
        assert known > 0.9
        # A toy that errs nowhere is not forgotten as digits are, but it does forget.
        assert likelihood(model, graph.take(after.variables, name), 1) < known
        held = [
            graph.take(state.fisher, name).total_weight for state in (before, after)
        ]
        assert held[0] - held[1] == plan.rows[graph.names.index(name), Y == 1].sum()
    assert all((of.dampened > 0).all() for of in info.update.values())
    # Of the narrow head the column of class 1, which is its second, and no other.
    old, new = (
        centre_head(
            graph.take(models, "t1")["params"],
            "Dense_1",
            jnp.array([True, False, True]),
        ),
        graph.take(after.variables, "t1")["params"],
    )
    change = np.abs(new["Dense_1"]["kernel"] - old["Dense_1"]["kernel"])
    # Centring alone is done twice in float32.
    np.testing.assert_array_equal(change.max(axis=0) > 1e-5, [False, True, False])

    _, after, _ = answered(hf.FIUnConfig.head_reassign())
    for place, (name, kept) in enumerate((("u0", [0, 2, 3]), ("t1", [0, 3]))):
        model = classifiers[graph.node(name).architecture]
        assert accuracy(model, graph.take(models, name), [1]) > 0.9
        assert accuracy(model, graph.take(after.variables, name), [1]) == 0
        assert accuracy(model, graph.take(after.variables, name), kept) > 0.9
        assert after.forgotten.classes[place].tolist() == [False, True, False, False]


def test_a_stopped_run_is_gone_on_with_to_the_bit(tmp_path):
    classifier = toys.softmax_regression()
    plan = inheritance.incremental(
        jax.random.key(3), DATA, length=2, first_classes=2, num_classes=4
    )
    options = {"directory": tmp_path}
    (first,) = train_networks([plan], classifier, **options)
    folders = sorted(folder.name for folder in tmp_path.iterdir())
    assert folders == ["level-0-u0", "level-1-u1"]
    (second,) = train_networks([plan], classifier, **options)
    chex.assert_trees_all_equal(second, first)
    with pytest.raises(ValueError, match="other"):
        train_networks([plan], classifier, KEYS[1:], **options)


def test_networks_that_do_not_fit_are_refused():
    classifier = toys.softmax_regression()
    plan = inheritance.federated_dag(jax.random.key(0), DATA)
    other = inheritance.federated_averaging(jax.random.key(0), DATA, rounds=1)
    seen = dict(zip(plan.graph.names, plan.rows, strict=True))
    edges = plan.graph.edges
    kinds = dict.fromkeys(seen, "small")
    small = Plan.create(DATA, seen, edges, architectures=kinds)
    blank = dataclasses.replace(plan, rows=plan.rows & (np.arange(6) != 2)[:, None])
    elsewhere = DATA._replace(y=DATA.y[::-1])
    narrow = {"wide": classifier}
    for plans, options, message in (
        ([], {}, "plans is empty"),
        ([plan, other], {}, "plans must have the same nodes and edges"),
        ([plan, small], {}, "plans must have the same nodes and edges"),
        ([plan, blank], {}, "r1 is trained in one plan and has no rows in another"),
        ([plan], {"keys": KEYS[0]}, r"keys must be typed keys \[S\], got shape \(\)"),
        ([plan], {"data": elsewhere}, "data are not those of the plan"),
        ([plan], {"classifier": narrow}, r"nothing for the architectures \['default'"),
    ):
        with pytest.raises(ValueError, match=message):
            train_networks(plans, **{"classifier": classifier, **options})


def test_what_training_would_trip_over_is_refused_before_it():
    def refused(message, edges, classifier=None, **options):
        rows = {"a": np.ones(DATA.y.shape, bool), "b": np.ones(DATA.y.shape, bool)}
        plan = inheritance.Plan.create(DATA, rows, edges, **options)
        models = toys.perceptron() if classifier is None else classifier
        with pytest.raises(ValueError, match=message):
            train_networks([plan], models)

    frozen = inheritance.Edge("a", "b", "transfer", frozen=("Dense_7",))
    refused("a -> b freezes 'Dense_7'.*Dense_0/kernel", [frozen])
    two = {"wide": toys.perceptron(), "default": toys.softmax_regression()}
    refused(
        "a -> b goes from the architecture 'default' to 'wide': columns",
        [inheritance.Edge("a", "b", "transfer")],
        two,
        architectures={"b": "wide"},
    )
