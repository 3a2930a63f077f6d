"""Graphs against brute force, under transformations, and what they refuse."""

import dataclasses
import hashlib
import itertools
import json

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperforget_jax.inheritance import (
    Edge,
    Graph,
    Models,
    Node,
    Record,
    check_roots,
)
from tests.inheritance.graphs import EDGES, NODES, dags, diamond, models

A, B, C = (Node(name, time, (0,)) for time, name in enumerate("abc"))


def closure(graph):
    """Who stands on whom, by following edges until nothing is new."""
    reached = {(name, name) for name in graph.names}
    while True:
        more = {
            (edge.child, root)
            for edge in graph.edges
            for node, root in reached
            if node == edge.parent
        }
        if more <= reached:
            return reached
        reached |= more


@hypothesis.given(dags())
def test_reach_is_the_transitive_closure(graph):
    expected = closure(graph)
    reach = graph.reach(graph.names)
    assert reach.dtype == bool
    assert reach.shape == (len(graph.nodes),) * 2
    for m, j in itertools.product(range(len(graph.nodes)), repeat=2):
        assert reach[m, j] == ((graph.names[m], graph.names[j]) in expected)
    for name in graph.names:
        apart = {(node, root) for node, root in expected if node != root}
        up = {root for node, root in apart if node == name}
        down = {node for node, root in apart if root == name}
        assert graph.ancestors(name) == tuple(n for n in graph.names if n in up)
        assert graph.descendants([name]) == tuple(n for n in graph.names if n in down)


@hypothesis.given(dags())
def test_levels_respect_edges(graph):
    levels = graph.levels()
    level = {name: row for row, names in enumerate(levels) for name in names}
    assert sorted(level) == sorted(graph.names)
    for name in graph.names:
        before = [level[edge.parent] for edge in graph.parents(name)]
        assert level[name] == max(before, default=-1) + 1
    for names in levels:
        assert list(names) == [name for name in graph.names if name in names]


@hypothesis.given(dags(), st.data())
def test_ids_are_of_content_and_not_of_order(graph, data):
    nodes = data.draw(st.permutations(graph.nodes))
    edges = data.draw(st.permutations(graph.edges))
    shuffled = Graph.create(nodes, edges)
    assert all(graph.id(name) == shuffled.id(name) for name in graph.names)
    assert len({graph.id(name) for name in graph.names}) == len(graph.nodes)

    changed = data.draw(st.sampled_from(graph.nodes))
    other = Graph.create(
        [
            dataclasses.replace(node, data="other") if node == changed else node
            for node in graph.nodes
        ],
        graph.edges,
    )
    heirs = {changed.name, *graph.descendants([changed.name])}
    for name in graph.names:
        assert (graph.id(name) != other.id(name)) == (name in heirs)


@pytest.mark.parametrize(
    "change",
    [
        {"time": 9},
        {"classes": (0, 1)},
        {"data": "x"},
        {"architecture": "x"},
        {"seed": 1},
        {"name": "x"},
    ],
    ids=str,
)
def test_every_field_of_a_node_is_in_its_id(change):
    node = Node("a", 0, (0,))
    other = dataclasses.replace(node, **change)
    assert Graph.create([node]).id("a") != Graph.create([other]).id(other.name)


@pytest.mark.parametrize(
    "change", [{"kind": "transfer"}, {"weight": 0.9999999}, {"frozen": ("x",)}], ids=str
)
def test_every_field_of_an_edge_is_in_its_childs_id(change):
    edge = Edge("a", "b")
    one = Graph.create([A, B], [edge])
    other = Graph.create([A, B], [dataclasses.replace(edge, **change)])
    assert one.id("a") == other.id("a")
    assert one.id("b") != other.id("b")


def test_an_id_is_a_digest_of_canonical_json():
    """What was saved years ago must have the same ids then."""

    def digest(contents):
        text = json.dumps(contents, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    graph = diamond()
    start = digest(
        {
            "node": {
                "name": "start",
                "time": 0,
                "classes": [0, 1, 2],
                "data": "all",
                "architecture": "default",
                "seed": 3,
                "revisions": [],
            },
            "parents": [],
        }
    )
    left = dataclasses.asdict(graph.node("left"))
    assert graph.id("start") == start
    assert graph.id("left") == digest(
        {"node": left, "parents": [[start, "dispatch", 1.0, []]]}
    )


def test_what_a_graph_tells():
    graph = diamond()
    assert graph.names == ("start", "left", "right", "merged", "small")
    assert graph.architectures == ("default", "small")
    assert graph.rows("default") == ("start", "left", "right", "merged")
    assert graph.levels() == (("start",), ("left", "right"), ("merged",), ("small",))
    assert graph.parents("merged") == EDGES[2:4]
    assert graph.descendants(["left", "start"]) == ("left", "right", "merged", "small")
    np.testing.assert_array_equal(
        graph.reach(["right", "start"], "default"),
        [[False, True], [False, True], [True, True], [True, True]],
    )
    np.testing.assert_array_equal(graph.reach(["left"], "small"), [[True]])
    assert graph.reach([]).shape == (5, 0)


def test_slices_are_a_nodes_own():
    graph = diamond(fisher=True)
    stacked = graph.models["default"]
    for row, name in enumerate(graph.rows("default")):
        own = jax.tree.map(lambda leaf, row=row: leaf[row], stacked)
        chex.assert_trees_all_equal(graph.variables(name), own.variables)
        chex.assert_trees_all_equal(graph.fisher(name), own.fisher)
    assert graph.variables("small")["params"]["Dense_0"]["kernel"].shape == (2,)
    assert graph.fisher("merged").batch_size == 32
    assert diamond().fisher("merged") is None


def test_to_networkx_gives_all_fields_and_a_copy():
    graph = diamond()
    drawn = graph.to_networkx()
    assert drawn.nodes["small"]["architecture"] == "small"
    assert drawn.edges["left", "merged"]["weight"] == 0.25
    assert list(drawn) == list(graph.names)
    drawn.remove_node("start")
    assert graph.ancestors("left") == ("start",)


def test_a_graph_passes_through_jit_and_vmap():
    graph = diamond(fisher=True)

    def double(graph):
        assert graph.ancestors("merged") == ("start", "left", "right")
        return dataclasses.replace(
            graph, models=jax.tree.map(lambda leaf: 2 * leaf, graph.models)
        )

    doubled = jax.jit(double)(graph)
    assert (doubled.nodes, doubled.edges) == (graph.nodes, graph.edges)
    chex.assert_trees_all_equal(doubled, double(graph))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1, leaf + 2]), graph)
    mapped = jax.vmap(double)(many)
    assert mapped.audit == ()
    for row in range(3):
        chex.assert_trees_all_equal(
            jax.tree.map(lambda leaf, row=row: leaf[row], mapped),
            double(jax.tree.map(lambda leaf, row=row: leaf + row, graph)),
        )
    small = jax.vmap(lambda graph: graph.variables("small"))(many)
    assert small["params"]["Dense_0"]["kernel"].shape == (3, 2)


def test_one_structure_is_one_compilation():
    traces = []

    @jax.jit
    def count(graph):
        traces.append(graph.names)
        return graph

    graph = count(count(diamond()))
    assert len(traces) == 1
    count(dataclasses.replace(graph, nodes=graph.nodes[::-1]))
    assert len(traces) == 2


def test_a_revision_is_recorded():
    graph = diamond()
    changed = ["left", "merged"]
    request = {"roots": ["left"], "descendants": changed, "method": "zero"}
    zero = jax.tree.map(jnp.zeros_like, graph.models)
    once = graph.revised(zero, request="classes 1", **request)
    twice = once.revised(zero, request="classes 1", **request)
    chex.assert_trees_all_equal(twice.models, zero)
    first, second = twice.audit
    assert (first.roots, first.descendants) == (("left",), ("left", "merged"))
    assert (first.request, first.method) == ("classes 1", "zero")
    assert first.id != second.id and second.previous == first.id
    for name in graph.names:
        ids = (first.id, second.id) if name in changed else ()
        assert twice.node(name).revisions == ids
        is_new = name in (*changed, "small")
        assert (graph.id(name) != once.id(name)) == is_new
    assert Graph.create(twice.nodes, twice.edges, zero, twice.audit).audit == (
        first,
        second,
    )


def test_lists_and_numpy_are_taken_for_what_they_are():
    node = Node("a", np.int64(3), np.arange(2), revisions=[])
    assert node == Node("a", 3, (0, 1))
    assert hash(node) == hash(Node("a", 3, (0, 1)))
    assert Edge("a", "b", weight=1, frozen=["x"]) == Edge("a", "b", frozen=("x",))
    for make in (lambda: Node("a", 0, (0.5,)), lambda: Edge("a", "b", frozen="Dense")):
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ([], [], "nodes is empty"),
        ([A, B, A], [], "duplicate id: 2 nodes are called 'a'"),
        ([A, B], [Edge("a", "bb")], "unknown child of a -> bb: .* did you mean b?"),
        ([A, B], [Edge("z", "b")], "unknown parent of z -> b: .*'z', but: a, b"),
        ([A, B], [Edge("a", "b", weight=0.5)] * 2, "duplicate edge: a -> b, 2 times"),
        ([A], [Edge("a", "a")], "a -> a is an edge from a node to itself"),
        (
            [A, B, C],
            [Edge("a", "b"), Edge("c", "b"), Edge("b", "c"), Edge("c", "a")],
            "The weights of 'b'",
        ),
        (
            [A, B, C],
            [Edge("a", "b"), Edge("b", "c"), Edge("c", "a")],
            "cycle: a -> b -> c -> a",
        ),
        ([A, B], [Edge("a", "b"), Edge("b", "a")], "cycle: a -> b -> a"),
        (
            [A, B],
            [Edge("b", "a")],
            r"'a' \(time 0\) must be later than its parent 'b' \(time 1\)",
        ),
        (
            [A, dataclasses.replace(B, time=0)],
            [Edge("a", "b")],
            r"'b' \(time 0\) must be later",
        ),
        (
            [A, B],
            [Edge("a", "b", "copy")],
            "kind 'copy'; allowed: average, dispatch, incremental, transfer",
        ),
        (
            [A, B, C],
            [Edge("a", "c", weight=0.5), Edge("b", "c", weight=0.6)],
            "weights of 'c' must sum to one; those of its 2 parents sum to 1.1",
        ),
        ([A, B], [Edge("a", "b", weight=1 + 1e-5)], "sum to 1.00001"),
        ([A, B], [Edge("a", "b", weight=-1)], "weight -1.0, which is not positive"),
        ([A, B], [Edge("a", "b", weight=np.nan)], "weight nan, which is not positive"),
        ([A, B], [Edge("a", "b", weight=np.inf)], "sum to inf"),
        ([Node("a", 0, ())], [], "'a' has no classes"),
        ([Node("a", 0, (1, -1))], [], r"classes \[1, -1\]: labels are non-negative"),
        ([Node("a", 0, (1, 1))], [], r"classes \[1, 1\]: labels must not repeat"),
        (
            [A, dataclasses.replace(B, architecture="deep")],
            [Edge("a", "b", "average")],
            "a -> b averages over the architectures 'default' and 'deep': mismatched "
            "trees cannot be averaged",
        ),
        (
            [dataclasses.replace(A, revisions=("feed",))],
            [],
            "'a' has the revision 'feed', of which the audit has no record",
        ),
    ],
)
def test_malformed_graphs_are_refused(nodes, edges, message):
    with pytest.raises(ValueError, match=message):
        Graph.create(nodes, edges)


def test_weights_may_miss_one_by_rounding():
    nodes = [Node(f"n{i}", i == 49, (0,)) for i in range(50)]
    edges = [Edge(f"n{i}", "n49", "average", np.float32(1 / 49)) for i in range(49)]
    assert len(Graph.create(nodes, edges).parents("n49")) == 49


def test_other_things_are_no_nodes():
    with pytest.raises(TypeError, match=r"nodes\[1\] must be of type Node, got str"):
        Graph.create([A, "b"])
    with pytest.raises(TypeError, match=r"edges\[0\] must be of type Edge, got tuple"):
        Graph.create([A, B], [("a", "b")])


def narrow(tree):
    return jax.tree.map(lambda leaf: leaf[:1], tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: {"default": m["default"]},
            r"models has nothing for the architectures \['small'\]",
        ),
        (
            lambda m: {**m, "smal": m["small"]},
            "models: there is no architecture 'smal'; did you mean small?",
        ),
        (
            lambda m: {**m, "default": narrow(m["default"])},
            r"models\['default'\] must be stacked over 4 nodes, \[4, ...\]; the leaf "
            r"'variables/params/Dense_0/kernel' has shape \(1, 3\)",
        ),
        (
            lambda m: {**m, "small": m["small"]._replace(fisher={"a": jnp.ones(3)})},
            r"the leaf 'fisher/a' has shape \(3,\)",
        ),
        (
            lambda m: {**m, "small": Models({"params": {"Dense_1": jnp.ones((1, 2))}})},
            "merged -> small freezes 'Dense_0', which small does not have; its "
            "parameters are Dense_1.",
        ),
        (
            lambda m: {**m, "small": Models({"params": {"Dense_00": jnp.ones(1)}})},
            "freezes 'Dense_0'",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(change, message):
    given = change(models())
    for make in (
        lambda: Graph.create(NODES, EDGES, given),
        lambda: diamond().with_models(given),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_other_things_are_no_models():
    with pytest.raises(TypeError, match=r"models\['default'\] must be Models\(.*dict"):
        Graph.create(NODES, EDGES, {**models(), "default": {"params": {}}})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (jnp.ones((1, 2)), r"'params/w' is float32\[3\] in one, float32\[2\] in the"),
        (jnp.ones((1, 3), jnp.bfloat16), r"is float32\[3\] in one, bfloat16\[3\]"),
        ({"v": jnp.ones((1, 3))}, r"'params/w' is float32\[3\] in one, not there in"),
        (jnp.ones((1, 3)), r"mismatched trees cannot be averaged\.$"),
    ],
)
def test_averages_over_architectures_say_where_trees_differ(other, message):
    nodes = [A, dataclasses.replace(B, architecture="deep")]
    given = {
        "default": Models({"params": {"w": jnp.ones((1, 3))}}),
        "deep": Models({"params": {"w": other}}),
    }
    with pytest.raises(ValueError, match=message):
        Graph.create(nodes, [Edge("a", "b", "average")], given)


def test_frozen_paths_may_be_whole_or_beginnings():
    for frozen in ("Dense_0", "Dense_0/kernel"):
        edges = [*EDGES[:4], Edge("merged", "small", "transfer", frozen=(frozen,))]
        Graph.create(NODES, edges, models())


def test_broken_audits_are_refused():
    fields = {"roots": ["a"], "descendants": ["a"], "method": "x"}
    first = Record.create(request="classes 0", **fields)
    second = Record.create(request="classes 0", previous=first.id, **fields)
    assert Graph.create([A], audit=[first, second]).audit == (first, second)
    forged = dataclasses.replace(first, method="y")
    for audit, message in (
        ([forged], f"the record '{first.id}' is not what its id says"),
        ([second], f"follows '{first.id}', but stands behind ''"),
        ([first, first], f"follows '', but stands behind '{first.id}'"),
    ):
        with pytest.raises(ValueError, match=message):
            Graph.create([A], audit=audit)
    with pytest.raises(ValueError, match="audit: there is no node 'a'"):
        Graph.create([B], audit=[first])


def test_unknown_names_are_answered_with_near_ones():
    graph = diamond()
    for ask in (graph.node, graph.variables, graph.parents, graph.ancestors, graph.id):
        with pytest.raises(ValueError, match="no node 'merge'; did you mean merged?"):
            ask("merge")
    with pytest.raises(ValueError, match="names: there is no node 'x', but: start, "):
        graph.descendants(["x"])
    with pytest.raises(TypeError, match=r"got the string 'left': write \['left'\]"):
        graph.reach("left")
    with pytest.raises(ValueError, match="no architecture 'smal'"):
        graph.rows("smal")
    with pytest.raises(ValueError, match="not trained yet"):
        Graph.create(NODES, EDGES).variables("left")


def test_roots_must_be_there_and_know_the_class():
    graph = diamond()
    assert check_roots(graph, ["small", "left"], [2, 1]) == ("small", "left")
    assert check_roots(graph, ["small"]) == ("small",)
    for roots, classes, message in (
        (["smal"], [], "roots: there is no node 'smal'; did you mean small?"),
        (
            ["left", "small"],
            [1, 0],
            r"The root 'small' does not know class 0; its classes are \[1, 2\]",
        ),
        ([], [], "roots is empty"),
        (["left", "left"], [], "roots must not repeat, got 'left' 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            check_roots(graph, roots, classes)
    with pytest.raises(TypeError, match="roots must be a sequence of names"):
        check_roots(graph, "left")
