"""Plans: what follows from rows and edges, and what forgetting makes of them."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.inheritance import Edge, Plan
from tests import toys
from tests.inheritance.graphs import dags

Y = np.arange(40) % 4
DATA = toys.points()._replace(y=jnp.asarray(Y, jnp.int32))
NOBODY = np.zeros(40, bool)
EDGES = (
    Edge("a", "mean", "average", 0.5),
    Edge("b", "mean", "average", 0.5),
    Edge("mean", "late"),
)


def rows(*which):
    return np.isin(np.arange(40), which)


def example():
    """``a`` sees classes 0 and 1, ``b`` 0 and 2, ``late`` 3, and ``mean`` nothing."""
    seen = {
        # Out of order: times follow from edges.
        "late": (Y == 3) & (np.arange(40) < 20),
        "a": (Y < 2) & (np.arange(40) < 20),
        "mean": NOBODY,
        "b": np.isin(Y, [0, 2]) & (np.arange(40) >= 20),
    }
    return Plan.create(DATA, seen, EDGES)


def test_classes_times_and_digests_follow():
    plan = example()
    nodes = {node.name: node for node in plan.graph.nodes}
    assert plan.graph.names == ("late", "a", "mean", "b")
    assert {name: node.time for name, node in nodes.items()} == {
        "a": 0,
        "b": 0,
        "mean": 1,
        "late": 2,
    }
    assert nodes["a"].classes == (0, 1) and nodes["b"].classes == (0, 2)
    assert nodes["mean"].classes == (0, 1, 2)
    assert nodes["late"].classes == (0, 1, 2, 3)
    assert nodes["mean"].data == ""
    assert len({nodes[name].data for name in ("a", "b", "late")}) == 3
    same = example()
    assert same.graph.nodes == plan.graph.nodes
    np.testing.assert_array_equal(plan.labels, Y)


def test_architectures_are_kept_and_weightless_rows_are_nobodys():
    data = DATA.without(jnp.array([0, 5]))
    seen = {"a": rows(0, 1, 2, 5)}
    plan = Plan.create(data, seen, architectures={"a": "small"})
    assert np.flatnonzero(plan.rows[0]).tolist() == [1, 2]
    assert plan.graph.node("a").classes == (1, 2)
    assert plan.graph.architectures == ("small",)


@hypothesis.given(dags(), st.data())
def test_holders_roots_and_classes_by_definition(graph, data):
    """Any graph, any rows, against sets."""
    some = st.sets(st.integers(0, 39), min_size=1, max_size=6)
    seen = {name: data.draw(some) for name in graph.names}
    plan = Plan.create(
        DATA, {name: rows(*of) for name, of in seen.items()}, graph.edges
    )
    wanted = data.draw(some)
    request = hf.forget_rows(DATA, sorted(wanted), capacity=8)
    holders = [name for name in graph.names if seen[name] & wanted]
    assert plan.holders(request) == tuple(holders)
    initial = [
        name for name in holders if not set(graph.ancestors(name)) & set(holders)
    ]
    assert plan.roots(request) == tuple(initial)
    for name in graph.names:
        line = (name, *graph.ancestors(name))
        known = set().union(*({int(Y[row]) for row in seen[each]} for each in line))
        assert plan.graph.node(name).classes == tuple(sorted(known))
    kept = plan.inherited(request)
    for name, before, after in zip(graph.names, plan.rows, kept.rows, strict=True):
        gone = set() if name in initial else wanted
        assert set(np.flatnonzero(after)) == seen[name] - gone
        assert set(np.flatnonzero(before)) == seen[name]


def test_nobody_sees_the_rows_in_the_retrained_plan():
    plan = example()
    request = hf.forget_classes(DATA, [0])
    retrained = plan.without(request)
    assert not retrained.rows[:, Y == 0].any()
    np.testing.assert_array_equal(retrained.rows[:, Y != 0], plan.rows[:, Y != 0])
    assert retrained.holders(request) == retrained.roots(request) == ()
    classes = {node.name: node.classes for node in retrained.graph.nodes}
    assert classes == {
        "late": (1, 2, 3),
        "a": (1,),
        "mean": (1, 2),
        "b": (2,),
    }
    # What never saw the rows is the same node, and so is what has no rows.
    assert retrained.graph.node("late").data == plan.graph.node("late").data
    assert retrained.graph.node("a").data != plan.graph.node("a").data
    assert retrained.graph.edges == plan.graph.edges
    assert plan.rows[:, Y == 0].any()


def test_descendants_may_merely_inherit():
    seen = {"a": Y < 2, "b": (Y == 1) | (Y == 2)}
    plan = Plan.create(DATA, seen, [Edge("a", "b")])
    request = hf.forget_classes(DATA, [1], num_classes=4)
    assert plan.holders(request) == ("a", "b") and plan.roots(request) == ("a",)
    kept = plan.inherited(request)
    np.testing.assert_array_equal(kept.rows, [Y < 2, Y == 2])
    assert kept.graph.node("b").classes == (0, 1, 2)
    other = plan.inherited(request, keepers=["b"])
    np.testing.assert_array_equal(other.rows, [Y == 0, (Y == 1) | (Y == 2)])


def test_several_requests_at_once_are_no_request():
    plan = example()
    with pytest.raises(ValueError, match="must be a single one, got 4, stacked"):
        plan.roots(hf.forget_each_class(DATA))


def test_a_nodes_share_of_a_request():
    weighted = DATA._replace(weight=1 + jnp.arange(40, dtype=jnp.int32) % 3)
    plan = Plan.create(weighted, {"a": Y < 2, "b": rows(1, 2, 5, 9)})
    request = hf.forget_classes(weighted, [1])
    share = plan.request_at(request, "b")
    own = rows(1, 2, 5, 9)
    np.testing.assert_array_equal(
        share.data.weight, np.where(own, np.asarray(weighted.weight), 0)
    )
    chex.assert_trees_all_equal(share.data._replace(weight=weighted.weight), weighted)
    # The next power of two, so that shares of similar size share a compilation.
    assert share.rows.shape == (4,)
    assert plan.request_at(request, "b", capacity=9).rows.shape == (9,)
    with pytest.raises(ValueError, match="capacity=2 is too small for the 3 rows"):
        plan.request_at(request, "b", capacity=2)
    assert tuple(plan.requests(request, ["a", "b"])) == ("a", "b")
    chex.assert_trees_all_equal(plan.requests(request, ["b"])["b"], share)
    held = share.forget
    assert sorted(held.id[held.weight > 0].tolist()) == [1, 5, 9]
    assert np.asarray(share.rows)[np.asarray(share.rows) < 40].tolist() == [1, 5, 9]
    np.testing.assert_array_equal(share.classes, request.classes)
    # Padding stays padding, whichever way it is written.
    odd = request._replace(rows=jnp.array([1, -1, 40, 1000], jnp.int32))
    assert plan.request_at(odd, "b").rows.tolist() == [1]
    assert plan.request_at(odd, "b", capacity=2).rows.tolist() == [1, 40]
    assert plan.holders(odd) == ("a", "b")


@pytest.mark.parametrize(
    ("seen", "edges", "message"),
    [
        (
            {"a": rows(1)[:39]},
            [],
            r"rows\['a'\] must be booleans of shape \(40,\), got shape \(39,\)",
        ),
        ({"a": rows(1).astype(int)}, [], r"shape \(40,\) and dtype int64"),
        ({"a": NOBODY}, [], "a sees no examples and inherits from nobody who does"),
        (
            {"a": rows(1), "b": NOBODY, "c": NOBODY},
            [Edge("b", "c")],
            "b sees no examples",
        ),
        ({"a": rows(1)}, [Edge("b", "a")], "unknown parent"),
        (
            {"a": rows(1), "b": rows(2)},
            [Edge("a", "b"), Edge("b", "a")],
            "cycle: a -> b -> a",
        ),
    ],
)
def test_malformed_plans_are_refused(seen, edges, message):
    with pytest.raises(ValueError, match=message):
        Plan.create(DATA, seen, edges)


def test_requests_of_other_data_are_refused():
    plan = example()
    other = DATA._replace(y=DATA.y[::-1])
    for request in (
        hf.forget_classes(other, [1]),
        hf.forget_labels([1], num_classes=4),
    ):
        for ask in (
            plan.holders,
            plan.roots,
            plan.without,
            plan.inherited,
            lambda request: plan.request_at(request, "a"),
        ):
            with pytest.raises(ValueError, match="not made from the data of the plan"):
                ask(request)
    with pytest.raises(TypeError, match="data must be hf.Examples"):
        Plan.create(np.ones((40, 2)), {"a": rows(1)})


def test_a_request_that_would_leave_a_node_nothing_to_know_is_refused():
    plan = Plan.create(DATA, {"a": Y == 1, "b": Y == 2})
    with pytest.raises(ValueError, match="b sees no examples and inherits"):
        plan.without(hf.forget_classes(DATA, [2]))
