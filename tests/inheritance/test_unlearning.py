"""Graphs that forget: against one model after the other, and what they refuse."""

import dataclasses
import functools
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import inheritance
from hyperforget_jax.models.head import centre_head
from tests import toys
from tests.inheritance import families
from tests.inheritance.families import (
    ASKED,
    NAMES,
    NUM_CLASSES,
    UNREACHED,
    family,
    registered,
    requests,
    rule,
)

PRESETS = ("repaired", "folded")
KEY = jax.random.key(5)
both_roots = functools.partial(requests, "left", "right")


@functools.cache
def answered(preset, *roots):
    """``(graph before, graph after, infos)``."""
    _, classifier, _, _ = family()
    graph = registered(preset)
    return graph, *inheritance.unlearn(
        KEY, graph, classifier, requests(*roots), rule(preset)
    )


def head():
    _, classifier, _, graph = family()
    data = family()[0]
    return inheritance.find_head(classifier, graph.variables("left"), data.x)


def params(graph, name):
    return graph.variables(name)["params"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_stacked_update_is_one_model_after_the_other(preset):
    data, classifier, _, _ = family()
    before, after, infos = answered(preset, "left", "right")
    how, last = rule(preset), head()
    asked = both_roots()

    @jax.jit
    def impressions(graph, asked):
        taken = []
        for root, request in asked.items():
            variables = graph.variables(root)
            found = inheritance.impress(classifier, variables, request, how, last)
            taken.append(inheritance.on_scale(found, graph.fisher(root), how))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *taken)

    @jax.jit
    def by_hand(key, variables, own, taken, reach):
        merged = inheritance.merge_impressions(taken, reach[None], how)
        one = jax.tree.map(lambda leaf: leaf[0], merged)
        fresh = classifier.init(key, data.x)["params"]
        return inheritance.update(variables, own, one, fresh, how, last)

    taken = impressions(before, asked)
    keys = jax.random.split(jax.random.fold_in(KEY, 0), len(NAMES))
    reach = before.reach(tuple(asked))
    mask = {"output_mask": jnp.zeros(NUM_CLASSES, bool)} if how.renew else {}
    for row, name in enumerate(NAMES):
        if not reach[row].any():
            continue
        variables, info = by_hand(
            keys[row],
            {**before.variables(name), **mask},
            before.fisher(name),
            taken,
            jnp.asarray(reach[row]),
        )
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            after.variables(name), variables, rtol=1e-4, atol=1e-6
        )
        stacked = jax.tree.map(lambda leaf, at=row: leaf[at], infos["default"])
        chex.assert_trees_all_close(stacked, info, rtol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_only_who_is_reached_changes(preset):
    before, after, infos = answered(preset, "left", "right")
    for row, name in enumerate(NAMES):
        old, new = dict(before.variables(name)), dict(after.variables(name))
        mask = new.pop("output_mask", np.zeros(NUM_CLASSES, bool))
        assert set(new) == set(old)
        assert ("output_mask" in after.variables(name)) == (preset == "folded")
        info = jax.tree.map(lambda leaf, at=row: leaf[at], infos["default"])
        if name in UNREACHED:
            chex.assert_trees_all_equal(new, old)
            assert not mask.any() and not info.held.any() and info.dampened == 0
        else:
            changed = jax.tree.map(lambda a, b: (a != b).any(), new, old)
            assert any(jax.tree.leaves(changed))
            assert (info.dampened > 0) == (preset != "folded")
    chex.assert_trees_all_equal(
        after.models["default"].fisher, before.models["default"].fisher
    )


def test_who_stands_on_two_roots_forgets_what_either_does():
    before, after, infos = answered("folded", "left", "right")
    lost = {
        "left": [0, 1],
        "son": [0, 1],
        "right": [2, 3],
        "daughter": [2, 3],
        "both": [0, 1, 2, 3],
        "heir": [0, 1, 2, 3],
    }
    for name, gone in lost.items():
        kept = [label for label in range(NUM_CLASSES) if label not in gone]
        assert families.accuracy(before, name, gone) > 0.9
        assert families.accuracy(after, name, gone) <= 0.02
        assert families.accuracy(after, name, kept) > 0.9
        held = infos["default"].held[NAMES.index(name)]
        np.testing.assert_array_equal(np.flatnonzero(held), gone)


def test_the_fishers_of_two_roots_are_merged_by_their_maximum():
    """NumPy, from the roots' Fishers on; one rule without scales or columns."""
    data, classifier, plan, graph = family()
    how = rule("published", estimator="per_example", alpha=1.5, strength=0.5)
    graph = inheritance.register(graph, classifier, data, plan, how)
    after, infos = inheritance.unlearn(KEY, graph, classifier, both_roots(), how)
    measure = jax.jit(
        lambda variables, data: hf.fisher.diagonal(
            classifier, variables, data, scope=("Dense_1",), batch_size=16
        )
    )
    forget = {
        root: measure(graph.variables(root), request.forget).values["Dense_1"]
        for root, request in both_roots().items()
    }
    row = NAMES.index("both")
    own = graph.fisher("both").values["Dense_1"]
    total = sum(leaf.size for leaf in jax.tree.leaves(params(graph, "both")))
    shares = {}
    for which in (["left"], ["right"], ["left", "right"]):
        selected = 0
        for name in ("kernel", "bias"):
            merged = np.max([forget[root][name] for root in which], axis=0)
            merged, d = np.float64(merged), np.float64(own[name])
            chosen = merged > 1.5 * d
            selected += chosen.sum()
            old = np.float64(params(graph, "both")["Dense_1"][name])
            ratio = 0.5 * d / np.where(chosen, merged, 1)
            expected = np.where(chosen, np.minimum(ratio, 1) * old, old)
            if len(which) == 2:
                # The Fishers are float32, from another compilation.
                np.testing.assert_allclose(
                    params(after, "both")["Dense_1"][name],
                    expected,
                    rtol=1e-4,
                    atol=1e-6,
                )
        shares[tuple(which)] = selected / total
    both = shares["left", "right"]
    assert both > max(shares["left",], shares["right",]) > 0
    np.testing.assert_allclose(infos["default"].dampened[row], both, rtol=1e-6)
    chex.assert_trees_all_equal(
        params(after, "both")["Dense_0"], params(graph, "both")["Dense_0"]
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_no_example_but_the_roots_forgotten_ones_is_read(preset):
    _, classifier, _, _ = family()
    before, expected, _ = answered(preset, "left", "right")

    def scribbled(request):
        rows = np.asarray(request.rows)
        inside = rows[rows < request.data.y.size]
        inside = inside[np.asarray(request.data.weight)[inside] > 0]
        others = np.setdiff1d(np.arange(request.data.y.size), inside)
        assert 0 < inside.size < 20
        noisy = toys.scribble(jax.random.key(9), request.data, jnp.asarray(others))
        return request._replace(data=noisy)

    given = {root: scribbled(each) for root, each in both_roots().items()}
    after, _ = inheritance.unlearn(KEY, before, classifier, given, rule(preset))
    chex.assert_trees_all_equal(after.models, expected.models)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_audit_the_ids_and_the_classes(preset):
    before, after, _ = answered(preset, "left", "right")
    assert before.audit == () and before.node("both").revisions == ()
    assert set(before.variables("both")) == {"params"}
    (record,) = after.audit
    reached = tuple(name for name in NAMES if name not in UNREACHED)
    assert (record.roots, record.descendants) == (("left", "right"), reached)
    assert record.request == "left: classes 0, 1; right: classes 2, 3"
    told = "scope=none" if preset == "folded" else "strength=0.003"
    assert record.method.startswith("fiun(") and told in record.method
    for name in NAMES:
        assert (after.id(name) == before.id(name)) == (name in UNREACHED)
        gone = [
            label
            for root, asked in ASKED.items()
            if after.reach([root])[NAMES.index(name), 0]
            for label in asked
        ]
        known = [label for label in range(NUM_CLASSES) if label not in gone]
        renews = preset == "folded"
        assert after.node(name).classes == (
            tuple(known) if renews else tuple(range(NUM_CLASSES))
        )
        mask = after.variables(name).get("output_mask", np.zeros(NUM_CLASSES, bool))
        np.testing.assert_array_equal(np.flatnonzero(mask), gone if renews else [])


def test_many_networks_are_answered_by_vmap():
    _, classifier, _, _ = family()
    first, expected, _ = answered("folded", "left", "right")
    second = jax.tree.map(lambda leaf: 1.1 * leaf, first)
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    keys = jnp.stack([KEY, jax.random.key(6)])
    how = rule("folded")

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0))
    def answer(keys, graph):
        return inheritance.forget(keys, graph, classifier, both_roots(), how)

    models, _ = answer(keys, many)
    other, _ = inheritance.unlearn(
        jax.random.key(6), second, classifier, both_roots(), how
    )
    for row, alone in enumerate((expected, other)):
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, at=row: leaf[at], models),
            alone.models,
            rtol=1e-4,
            atol=1e-6,
        )


def test_models_may_be_spread_over_devices():
    _, classifier, _, _ = family()
    graph, expected, expected_infos = answered("repaired", "left", "right")
    mesh = hf.sharding.make_mesh()
    after, infos = inheritance.unlearn(
        KEY, graph, classifier, both_roots(), rule("repaired"), mesh=mesh
    )
    leaf = after.models["default"].variables["params"]["Dense_0"]["kernel"]
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {1}
    # Products of one model and of eight at once sum in another order.
    chex.assert_trees_all_close(
        (after.models, infos),
        (expected.models, expected_infos),
        rtol=1e-4,
        atol=1e-6,
    )


def test_one_compilation_serves_many_requests_and_they_add_up():
    data, classifier, plan, _ = family()
    traces = []

    def taps(variables, x):
        traces.append(x.shape)
        return classifier.taps(variables, x)

    counted = classifier._replace(taps=taps)
    graph, how = registered("folded"), rule("folded")
    graph = graph.with_models(
        {
            "default": inheritance.Models(
                {
                    **graph.models["default"].variables,
                    "output_mask": jnp.zeros((len(NAMES), NUM_CLASSES), bool),
                }
            )
        }
    )
    counts, graphs = [], [graph]
    for label in (4, 0, 2):
        request = hf.forget_classes(data, [label])
        asked = {"left": plan.request_at(request, "left")}
        after, _ = inheritance.unlearn(KEY, graphs[-1], counted, asked, how)
        graphs.append(after)
        counts.append(len(traces))
    assert counts[0] > 0 and counts == counts[:1] * 3
    last = graphs[-1]
    assert [record.request for record in last.audit] == [
        "left: classes 4",
        "left: classes 0",
        "left: classes 2",
    ]
    assert len(last.node("heir").revisions) == 3 and last.node("right").revisions == ()
    for name in ("left", "son", "both", "heir"):
        assert last.node(name).classes == (1, 3, 5)
        assert np.flatnonzero(last.variables(name)["output_mask"]).tolist() == [0, 2, 4]
        assert families.accuracy(last, name, [0, 2, 4]) == 0
        assert families.accuracy(last, name, [1, 3, 5]) > 0.9
    with pytest.raises(ValueError, match="'left' does not know class 4"):
        request = plan.request_at(hf.forget_classes(data, [4]), "left")
        inheritance.unlearn(KEY, last, classifier, {"left": request}, how)


def test_rows_are_forgotten_without_a_class():
    data, classifier, plan, _ = family()
    graph, how = registered("repaired"), rule("repaired", deep_alpha=0.1)
    capacity = both_roots()["left"].rows.size

    def ask(count):
        asked = {}
        for root in ASKED:
            rows = np.flatnonzero(plan.rows[NAMES.index(root)])[:count]
            request = hf.forget_rows(data, rows, num_classes=NUM_CLASSES)
            asked[root] = plan.request_at(request, root, capacity=capacity)
        return inheritance.unlearn(KEY, graph, classifier, asked, how)

    after, infos = ask(3)
    dampened = dict(zip(NAMES, infos["default"].dampened.tolist(), strict=True))
    assert min(dampened[name] for name in ("left", "son", "both", "heir")) > 0
    assert max(dampened[name] for name in UNREACHED) == 0
    # No class is unknown, and the head is not bound to columns.
    assert "output_mask" not in after.models["default"].variables
    assert after.nodes[0].classes == tuple(range(NUM_CLASSES))
    old = centre_head(params(graph, "left"), "Dense_1")["Dense_1"]["kernel"]
    new = params(after, "left")["Dense_1"]["kernel"]
    assert (np.abs(new - old) > 1e-6).any(axis=0).sum() > 1
    assert after.audit[0].request.startswith("left: rows ")
    assert ask(2)[0].audit[0].request != after.audit[0].request


def test_a_node_without_rows_has_the_fisher_of_its_parents_rows():
    data, classifier, plan, graph = family()
    rows = dict(zip(NAMES, plan.rows, strict=True))
    rows["both"] = np.zeros_like(rows["both"])
    bare = inheritance.Plan.create(data, rows, families.EDGES)
    averaged = dataclasses.replace(graph, nodes=bare.graph.nodes)
    got = inheritance.register(averaged, classifier, data, bare, rule("repaired"))
    joined = rows["left"] | rows["right"]
    seen = data._replace(weight=jnp.asarray(joined, jnp.int32))
    measure = jax.jit(
        lambda variables, data: hf.fisher.diagonal(classifier, variables, data)
    )
    expected = measure(graph.variables("both"), seen)
    assert got.fisher("both").mass == joined.sum()
    # Other microbatches sum in another order.
    chex.assert_trees_all_close(
        got.fisher("both").values, expected.values, rtol=1e-4, atol=1e-9
    )
    chex.assert_trees_all_close(
        got.fisher("heir"), registered("repaired").fisher("heir"), rtol=1e-5
    )
    assert inheritance.register(graph, classifier, data, plan, rule("folded")) is graph
    with pytest.raises(ValueError, match="not that of the graph: both was trained on"):
        inheritance.register(graph, classifier, data, bare, rule("repaired"))
    bare_graph = dataclasses.replace(graph, models={})
    with pytest.raises(ValueError, match="not trained"):
        inheritance.register(bare_graph, classifier, data, plan, rule("repaired"))
    refused("not trained", bare_graph, requests("left"), rule("repaired"))


def broken_fishers(value):
    graph = registered("repaired")
    models = graph.models["default"]
    values = jax.tree.map(lambda leaf: leaf.at[0].set(value), models.fisher.values)
    bad = dataclasses.replace(models.fisher, values=values)
    return graph.with_models({"default": models._replace(fisher=bad)})


def refused(message, graph, asked, how, error=ValueError):
    with pytest.raises(error, match=message):
        inheritance.unlearn(KEY, graph, family()[1], asked, how)


def test_malformed_requests_are_refused():
    data, _, plan, graph = family()
    good, how = registered("repaired"), rule("repaired")
    asked = requests("left")
    (request,) = asked.values()
    refused("dictionary by root.*got ForgetRequest", good, request, how, TypeError)
    refused("roots is empty", good, {}, how)
    refused("no node 'lef'; did you mean left?", good, {"lef": request}, how)
    bare = hf.forget_labels([0], NUM_CLASSES)
    refused("The request to 'left' carries no data", good, {"left": bare}, how)
    elsewhere = request._replace(data=data.without(request.rows))
    refused("'left' names no example", good, {"left": elsewhere}, how)
    padding = request._replace(rows=jnp.full_like(request.rows, -1))
    refused("'left' names no example", good, {"left": padding}, how)
    narrow = [
        dataclasses.replace(node, classes=(0, 2)) if node.name == "left" else node
        for node in good.nodes
    ]
    narrow = dataclasses.replace(good, nodes=tuple(narrow))
    refused(r"'left' does not know class 1; .* \[0, 2\]", narrow, asked, how)
    wide = hf.forget_classes(data, [0], num_classes=NUM_CLASSES + 1)
    wide = {"left": plan.request_at(wide, "left")}
    refused("6 logits.*7 classes", good, wide, how)
    rows = np.flatnonzero(plan.rows[0])[:2]
    rows = hf.forget_rows(data, rows, num_classes=NUM_CLASSES)
    rows = {"left": plan.request_at(rows, "left")}
    refused("request is for single rows: use .*repaired", graph, rows, rule("folded"))
    with pytest.raises(ValueError, match="carry no data"):
        inheritance.forget(KEY, good, family()[1], {"left": bare}, how)


def test_missing_or_broken_fishers_are_refused():
    graph, how, asked = family()[3], rule("repaired"), requests("left")
    refused("no cached Fishers: register the graph", graph, asked, how)
    refused("mixed estimators", registered("published"), asked, how)
    other = rule("repaired", scope="head")
    refused("cover different parameters", registered("repaired"), asked, other)
    for value, message in ((-1.0, "-1.0"), (jnp.nan, "nan"), (jnp.inf, "inf")):
        message = rf"models\['default'\].fisher.values must be finite.* got {message}"
        refused(message, broken_fishers(value), asked, how)


def test_a_request_for_all_that_a_node_knows_is_refused():
    graph = registered("folded")
    nodes = [
        dataclasses.replace(node, classes=(0, 1) if node.name == "heir" else range(6))
        for node in graph.nodes
    ]
    graph = dataclasses.replace(graph, nodes=tuple(nodes))
    message = "heir knows the requested classes alone"
    refused(message, graph, requests("left"), rule("folded"))


def test_more_data_than_a_root_was_trained_on_are_refused():
    data = family()[0]
    whole = {"left": hf.forget_classes(data, [0, 1])}
    message = "brings 240 examples, and its Fisher is of 30: .* plan.request_at"
    refused(message, registered("repaired"), whole, rule("repaired"))


def test_fishers_of_before_are_said_to_be_stale():
    data, classifier, _, _ = family()
    graph, how = registered("repaired"), rule("repaired")
    after, _ = inheritance.unlearn(KEY, graph, classifier, requests("left"), how)
    with pytest.warns(RuntimeWarning, match="left, .* were taken before an earlier"):
        inheritance.unlearn(KEY, after, classifier, requests("right"), how)


def test_thresholds_that_select_nothing_are_said_to():
    request = requests("left")["left"]
    for how, message in (
        (rule("repaired", alpha=1.0), "alpha=1.0 selects nothing .* at most 1 there"),
        (
            rule("published", estimator="per_example", alpha=3.0),
            "its forget data are 0.333 of its data, .* is at most 3 there",
        ),
    ):
        with pytest.warns(RuntimeWarning, match=message):
            inheritance.check_effect(how, request)
    _, classifier, _, graph = family()
    with pytest.warns(RuntimeWarning, match="selects nothing"):
        _, infos = inheritance.unlearn(
            KEY,
            registered("repaired"),
            classifier,
            both_roots(),
            rule("repaired", alpha=1.0, deep_alpha=1.0),
        )
    assert infos["default"].dampened[NAMES.index("left")] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inheritance.check_effect(rule("repaired"), request)
        inheritance.check_effect(rule("published"), request)
        inheritance.check_effect(rule("folded"), request)


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float64])
@pytest.mark.parametrize("preset", inheritance.PRESETS)
def test_dtypes_stay(preset, kind):
    data, classifier, plan, graph = family()
    with jax.enable_x64(kind is jnp.float64):
        models = graph.models["default"]
        variables = optax.tree.cast(models.variables, kind)
        before = inheritance.register(
            graph.with_models({"default": models._replace(variables=variables)}),
            classifier,
            data._replace(x=data.x.astype(jnp.promote_types(kind, jnp.float32))),
            plan,
            rule(preset),
        )
        after, _ = inheritance.unlearn(
            KEY, before, classifier, both_roots(), rule(preset)
        )
        left = after.models["default"]
        chex.assert_trees_all_equal_shapes_and_dtypes(
            left.variables["params"], variables["params"]
        )
        chex.assert_tree_all_finite(left.variables)
        for leaf in jax.tree.leaves(left.fisher):
            assert leaf.dtype == jnp.float32
