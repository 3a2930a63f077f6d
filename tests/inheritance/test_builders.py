"""The builders: who gets which rows, and who inherits from whom."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import inheritance
from hyperforget_jax.inheritance import builders
from tests import toys

KEY = jax.random.key(4)
DATA = toys.points(240)
Y = np.asarray(DATA.y)


def edges(plan):
    return {(e.parent, e.child): (e.kind, e.weight) for e in plan.graph.edges}


def rows(plan, name):
    return plan.rows[plan.graph.names.index(name)]


def assert_disjoint(plan, names):
    assert plan.rows[[plan.graph.names.index(n) for n in names]].sum(axis=0).max() == 1


@hypothesis.given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 0.5, 10]), min_size=1, max_size=6),
    gone=st.sampled_from([(), (0,), tuple(range(7, 240, 4))]),
)
def test_shards_are_disjoint_and_cover_what_counts(sizes, gone):
    data = DATA.without(jnp.array(gone, jnp.int32))
    table = builders.shards(KEY, data, sizes)
    count = 240 - len(gone)
    np.testing.assert_array_equal(table.sum(axis=0), ~np.isin(range(240), gone))
    expected = count * np.array(sizes) / np.sum(sizes)
    assert np.abs(table.sum(axis=1) - expected).max() <= 1
    np.testing.assert_array_equal(table, builders.shards(KEY, data, sizes))


def test_shards_are_drawn():
    first, second = (
        builders.shards(jax.random.key(seed), DATA, [1, 1]) for seed in (0, 1)
    )
    assert (first != second).any()
    # As good as any draw: no shard is a run of rows.
    assert np.diff(np.flatnonzero(first[0])).max() > 1


def test_shards_that_cannot_be_drawn_are_refused():
    for sizes in ([], [1, 0], [1, -2]):
        with pytest.raises(ValueError, match="sizes must be positive"):
            builders.shards(KEY, DATA, sizes)
    with pytest.raises(ValueError, match="4 examples are too few for 5 shards"):
        builders.shards(KEY, DATA.without(jnp.arange(4, 240)), [1] * 5)


def test_the_small_federated_graph():
    plan = inheritance.federated_dag(KEY, DATA, sensitive=[1, 3])
    assert plan.graph.levels == (("d", "s"), ("r1",), ("r2",), ("r3", "r4"))
    half, whole = ("average", 0.5), ("dispatch", 1.0)
    assert edges(plan) == {
        ("d", "r1"): half,
        ("s", "r1"): half,
        ("r1", "r2"): whole,
        ("d", "r3"): half,
        ("r2", "r3"): half,
        ("r1", "r4"): half,
        ("r2", "r4"): half,
    }
    assert plan.rows.sum(axis=0).max() == 1
    for name in ("d", "s"):
        assert not np.isin(Y[rows(plan, name)], [1, 3]).any()
        assert plan.graph.node(name).classes == (0, 2)
    for name in ("r1", "r2", "r3", "r4"):
        assert rows(plan, name).sum() == 40
        assert plan.graph.node(name).classes == (0, 1, 2, 3)
    request = hf.forget_classes(DATA, [1])
    assert plan.roots(request) == ("r1",)
    assert plan.holders(request) == ("r1", "r2", "r3", "r4")
    everyone = inheritance.federated_dag(KEY, DATA)
    assert everyone.roots(request) == ("d", "s")
    assert everyone.rows.sum() == 240


def test_federated_averaging():
    plan = inheritance.federated_averaging(KEY, DATA, rounds=2, client_sizes=(3, 2, 1))
    names = ("server0", "client0.1", "client1.1", "client2.1", "server1")
    names += ("client0.2", "client1.2", "client2.2", "server2")
    assert plan.graph.names == names
    assert plan.graph.levels == (
        names[:1],
        names[1:4],
        names[4:5],
        names[5:8],
        names[8:],
    )
    assert_disjoint(plan, names[1:4])
    counts = [rows(plan, f"client{k}.1").sum() for k in range(3)]
    assert counts == [120, 80, 40]
    for t in (1, 2):
        assert not rows(plan, f"server{t}").any()
        assert plan.graph.node(f"server{t}").data == ""
        own = {e.parent: e for e in plan.graph.parents(f"server{t}")}
        for k, count in enumerate(counts):
            edge = own[f"client{k}.{t}"]
            assert edge.kind == "average"
            np.testing.assert_allclose(edge.weight, count / 240, rtol=1e-12)
            assert edges(plan)[f"server{t - 1}", f"client{k}.{t}"] == ("dispatch", 1)
            # The same client, the same rows, in every round.
            np.testing.assert_array_equal(
                rows(plan, f"client{k}.{t}"), rows(plan, f"client{k}.1")
            )
        np.testing.assert_allclose(sum(e.weight for e in own.values()), 1, rtol=1e-12)
    np.testing.assert_array_equal(rows(plan, "server0"), rows(plan, "client0.1"))
    last = np.flatnonzero(rows(plan, "client2.1"))[:2]
    request = hf.forget_rows(DATA, last)
    assert plan.roots(request) == ("client2.1",)
    assert plan.holders(request) == ("client2.1", "client2.2")


def test_the_deep_federated_graph():
    plan = inheritance.federated_chain(KEY, DATA, length=25)
    assert len(plan.graph.nodes) == 50 and len(plan.graph.levels) == 26
    np.testing.assert_array_equal(plan.rows.sum(axis=0), 1)
    assert set(plan.rows.sum(axis=1)) <= {4, 5}
    shown = edges(plan)
    assert shown["a0", "d0"] == ("dispatch", 1)
    for i in range(1, 25):
        assert shown[f"a{i - 1}", f"a{i}"] == ("dispatch", 1)
        assert shown[f"a{i}", f"d{i}"] == ("average", 0.5)
        assert shown[f"d{i - 1}", f"d{i}"] == ("average", 0.5)
    assert len(shown) == 1 + 3 * 24
    request = hf.forget_rows(DATA, np.flatnonzero(rows(plan, "a3"))[:1])
    assert plan.roots(request) == ("a3",)
    assert len(plan.graph.descendants(["a3"])) == 2 * 25 - 7


def test_data_parallel_training():
    plan = inheritance.data_parallel(KEY, DATA, workers=3, rounds=2)
    assert plan.graph.levels == (
        ("u1", "u2", "u3"),
        ("u0",),
        ("v1", "v2", "v3"),
        ("v0",),
    )
    np.testing.assert_array_equal(
        sum(rows(plan, f"u{k}").astype(int) for k in range(4)), 1
    )
    assert not rows(plan, "v0").any()
    for k in (1, 2, 3):
        assert edges(plan)[f"u{k}", "u0"] == ("average", 1 / 3)
        assert edges(plan)["u0", f"v{k}"] == ("dispatch", 1)
        assert edges(plan)[f"v{k}", "v0"] == ("average", 1 / 3)
        np.testing.assert_array_equal(rows(plan, f"u{k}"), rows(plan, f"v{k}"))
    assert plan.roots(hf.forget_classes(DATA, [2])) == ("u1", "u2", "u3")


def test_classes_are_added_one_by_one():
    plan = inheritance.incremental(KEY, DATA, length=4, first_classes=1, num_classes=4)
    known = [plan.graph.node(f"u{step}").classes for step in range(4)]
    assert known == [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]
    assert plan.graph.levels == (("u0",), ("u1",), ("u2",), ("u3",))
    assert {e.kind for e in plan.graph.edges} == {"incremental"}
    assert plan.rows.sum(axis=0).max() == 1
    # The last class came last, and whoever is asked to forget it is its root.
    assert plan.roots(hf.forget_classes(DATA, [3])) == ("u3",)
    assert plan.roots(hf.forget_classes(DATA, [0])) == ("u0",)


def test_a_long_incremental_chain():
    data = toys.points(1800)
    y = np.random.default_rng(0).permutation(1800) % 10
    data = data._replace(y=jnp.asarray(y, jnp.int32))
    plan = inheritance.incremental(KEY, data, length=30)
    assert len(plan.graph.levels) == 30
    known = [plan.graph.node(f"u{step}").classes for step in range(30)]
    assert known[0] == tuple(range(7)) and known[-1] == tuple(range(10))
    assert all(set(a) <= set(b) for a, b in zip(known, known[1:], strict=False))
    counts = [len(each) for each in known]
    assert max(np.diff(counts)) == 1
    # Once added, a class belongs to every later shard.
    seen = [set(y[rows(plan, f"u{step}")]) for step in range(30)]
    for label in (7, 8, 9):
        first = next(step for step, each in enumerate(seen) if label in each)
        assert label not in set().union(*seen[:first])
        # But for shards of 60 rows that chance gave none of it.
        assert np.mean([label in each for each in seen[first:]]) > 0.9
    short = inheritance.incremental(KEY, data, length=2)
    assert [len(node.classes) for node in short.graph.nodes] == [9, 10]


def test_a_transfer_learning_star():
    plan = inheritance.transfer(KEY, DATA, children=2, frozen=["Dense_0"])
    assert plan.graph.levels == (("u0",), ("t1", "t2"))
    np.testing.assert_array_equal(plan.rows.sum(axis=0), 1)
    assert plan.rows.sum(axis=1).tolist() == [120, 60, 60]
    for edge in plan.graph.edges:
        assert (edge.kind, edge.frozen) == ("transfer", ("Dense_0",))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: inheritance.federated_averaging(KEY, DATA, rounds=0),
            "rounds must be positive, got rounds=0",
        ),
        (
            lambda: inheritance.federated_averaging(KEY, DATA, client_sizes=(1, 0)),
            "sizes must be positive",
        ),
        (
            lambda: inheritance.federated_chain(KEY, DATA, length=1),
            "length must be at least 2, got 1",
        ),
        (
            lambda: inheritance.federated_chain(KEY, DATA, length=121),
            "240 examples are too few for 242 shards",
        ),
        (
            lambda: inheritance.data_parallel(KEY, DATA, workers=1),
            "workers must be at least 2 .* got 1 and 2",
        ),
        (
            lambda: inheritance.data_parallel(KEY, DATA, rounds=6),
            r"rounds in \[1, 5\], got 3 and 6",
        ),
        (
            lambda: inheritance.incremental(KEY, DATA, length=1, num_classes=4),
            "length must be at least 2, got 1",
        ),
        (
            lambda: inheritance.incremental(KEY, DATA, first_classes=5, num_classes=4),
            r"first_classes must lie in \[1, 4\], got 5",
        ),
        (
            lambda: inheritance.transfer(KEY, DATA, children=0, frozen=["a"]),
            "children must be positive, got children=0",
        ),
    ],
)
def test_malformed_networks_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
