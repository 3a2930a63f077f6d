"""Graphs against brute force, under transformations, and what they refuse."""

import dataclasses
import functools
import hashlib
import itertools
import json

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.inheritance import (
    Edge,
    Graph,
    Node,
    Record,
    record,
    revisions,
    verify,
)
from hyperforget_jax.inheritance.graph import check_models
from tests.inheritance.graphs import DIAMOND, EDGES, NODES, dags, models

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
    levels = graph.levels
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
    shuffled = Graph(nodes, edges)
    assert all(graph.ids()[name] == shuffled.ids()[name] for name in graph.names)
    assert len({graph.ids()[name] for name in graph.names}) == len(graph.nodes)

    changed = data.draw(st.sampled_from(graph.nodes))
    other = Graph(
        [
            dataclasses.replace(node, data="other") if node == changed else node
            for node in graph.nodes
        ],
        graph.edges,
    )
    inheriting = {changed.name, *graph.descendants([changed.name])}
    for name in graph.names:
        assert (graph.ids()[name] != other.ids()[name]) == (name in inheriting)


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
    assert Graph([node]).ids()["a"] != Graph([other]).ids()[other.name]


@pytest.mark.parametrize(
    "change", [{"kind": "transfer"}, {"weight": 0.9999999}, {"frozen": ("x",)}], ids=str
)
def test_every_field_of_an_edge_is_in_its_childs_id(change):
    edge = Edge("a", "b")
    one = Graph([A, B], [edge])
    other = Graph([A, B], [dataclasses.replace(edge, **change)])
    assert one.ids()["a"] == other.ids()["a"]
    assert one.ids()["b"] != other.ids()["b"]


def test_an_id_is_a_digest_of_canonical_json():
    """What was saved years ago must have the same ids then."""

    def digest(contents):
        text = json.dumps(contents, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    graph = DIAMOND
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
    left = {**dataclasses.asdict(graph.node("left")), "revisions": []}
    assert graph.ids()["start"] == start
    assert graph.ids()["left"] == digest(
        {"node": left, "parents": [[start, "dispatch", 1.0, []]]}
    )


def test_what_a_graph_tells():
    graph = DIAMOND
    assert graph.names == ("start", "left", "right", "merged", "small")
    assert graph.architectures == ("default", "small")
    assert graph.rows("default") == ("start", "left", "right", "merged")
    assert graph.levels == (("start",), ("left", "right"), ("merged",), ("small",))
    assert graph.parents("merged") == EDGES[2:4]
    assert graph.descendants(["left", "start"]) == ("left", "right", "merged", "small")
    np.testing.assert_array_equal(
        graph.reach(["right", "start"], "default"),
        [[False, True], [False, True], [True, True], [True, True]],
    )
    np.testing.assert_array_equal(graph.reach(["left"], "small"), [[True]])
    assert graph.reach([]).shape == (5, 0)


def test_slices_are_a_nodes_own():
    stacked = models()
    for row, name in enumerate(DIAMOND.rows("default")):
        own = jax.tree.map(lambda leaf, row=row: leaf[row], stacked["default"])
        chex.assert_trees_all_equal(DIAMOND.take(stacked, name), own)
    assert DIAMOND.take(stacked, "small")["params"]["Dense_0"]["kernel"].shape == (2,)


def test_to_networkx_gives_all_fields_and_a_copy():
    graph = DIAMOND
    drawn = graph.to_networkx()
    assert drawn.nodes["small"]["architecture"] == "small"
    assert drawn.edges["left", "merged"]["weight"] == 0.25
    assert list(drawn) == list(graph.names)
    drawn.remove_node("start")
    assert graph.ancestors("left") == ("start",)


def test_equal_graphs_are_one_compilation():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def doubled(graph, stacked):
        traces.append(graph.ancestors("merged"))
        return jax.tree.map(lambda leaf: 2 * leaf, graph.take(stacked, "merged"))

    for graph in (DIAMOND, Graph(list(NODES), list(EDGES))):
        assert graph == DIAMOND and hash(graph) == hash(DIAMOND)
        doubled(graph, models())
    assert traces == [("start", "left", "right")]
    doubled(Graph(NODES[::-1], EDGES), models())
    assert len(traces) == 2


def test_a_request_is_recorded():
    """What changed has another id from then on, and so has who inherits from it."""
    requests = {"left": hf.forget_labels([1], num_classes=3)}
    config = hf.FIUnConfig.head_reassign()
    once = record((), DIAMOND, requests, config)
    first, second = twice = record(once, DIAMOND, requests, config)
    verify(twice, DIAMOND)
    changed = ("left", "merged", "small")
    assert (first.roots, first.descendants) == (("left",), changed)
    assert first.request == "left: classes 1"
    assert first.method.startswith("fiun(") and "scope=none" in first.method
    assert first.id != second.id and second.previous == first.id
    assert revisions(twice) == dict.fromkeys(changed, (first.id, second.id))
    before, after = DIAMOND.ids(), DIAMOND.ids(revisions(once))
    for name in DIAMOND.names:
        assert (before[name] != after[name]) == (name in changed)


def test_lists_and_numpy_are_taken_for_what_they_are():
    node = Node("a", np.int64(3), np.arange(2))
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
        ([A, B], [Edge("a", "b", weight=0.5)] * 2, "duplicate edge: a -> b"),
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
    ],
)
def test_malformed_graphs_are_refused(nodes, edges, message):
    with pytest.raises(ValueError, match=message):
        Graph(nodes, edges)


def test_weights_may_miss_one_by_rounding():
    nodes = [Node(f"n{i}", i == 49, (0,)) for i in range(50)]
    edges = [Edge(f"n{i}", "n49", "average", np.float32(1 / 49)) for i in range(49)]
    assert len(Graph(nodes, edges).parents("n49")) == 49


def test_other_things_are_no_nodes():
    with pytest.raises(TypeError, match=r"nodes\[1\] must be of type Node, got str"):
        Graph([A, "b"])
    with pytest.raises(TypeError, match=r"edges\[0\] must be of type Edge, got tuple"):
        Graph([A, B], [("a", "b")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: {"default": m["default"]},
            r"variables has nothing for the architectures \['small'\]",
        ),
        (
            lambda m: {**m, "smal": m["small"]},
            "variables: there is no architecture 'smal'; did you mean small?",
        ),
        (
            lambda m: {**m, "default": jax.tree.map(lambda x: x[:1], m["default"])},
            r"variables\['default'\] must be stacked over 4 nodes, \[4, ...\]; the "
            r"leaf 'params/Dense_0/kernel' has shape \(1, 3\)",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_models(DIAMOND, change(models()))
    with pytest.raises(TypeError, match="variables must be a dictionary.*got list"):
        check_models(DIAMOND, [models()])


def test_broken_audits_are_refused():
    graph = Graph([A])
    fields = {"roots": ["a"], "descendants": ["a"], "method": "x"}
    first = Record(request="classes 0", **fields)
    second = Record(request="classes 0", previous=first.id, **fields)
    verify([first, second], graph)
    forged = dataclasses.replace(first, method="y")
    for audit, message in (
        ([forged], f"the record '{first.id}' is not what its id says"),
        ([second], f"follows '{first.id}', but stands behind ''"),
        ([first, first], f"follows '', but stands behind '{first.id}'"),
    ):
        with pytest.raises(ValueError, match=message):
            verify(audit, graph)
    with pytest.raises(ValueError, match="audit: there is no node 'a'"):
        verify([first], Graph([B]))
    with pytest.raises(TypeError, match=r"audit\[0\] must be of type Record, got str"):
        verify(["x"], graph)


def test_unknown_names_are_answered_with_near_ones():
    graph = DIAMOND
    for ask in (
        graph.node,
        graph.parents,
        graph.ancestors,
        lambda name: graph.take(models(), name),
    ):
        with pytest.raises(ValueError, match="no node 'merge'; did you mean merged?"):
            ask("merge")
    with pytest.raises(ValueError, match="names: there is no node 'x', but: start, "):
        graph.descendants(["x"])
    with pytest.raises(TypeError, match=r"got the string 'left': write \['left'\]"):
        graph.reach("left")
    with pytest.raises(ValueError, match="no architecture 'smal'"):
        graph.rows("smal")
