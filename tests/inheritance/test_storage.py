"""Graphs come back to the bit, or say why not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperforget_jax import checkpointing
from hyperforget_jax.inheritance import Graph, Models, Node, load, save
from tests.inheritance.graphs import EDGES, NODES, diamond


def assert_same(left, right):
    # The structure has nodes, edges, audit and the Fisher's static fields in it.
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("fisher", [False, True])
def test_a_graph_comes_back_to_the_bit(tmp_path, fisher):
    graph = diamond(fisher)
    graph = graph.revised(
        jax.tree.map(lambda leaf: leaf / 3, graph.models),
        roots=["left"],
        descendants=["left", "merged"],
        request="classes 1",
        method="thirds",
    )
    manifest = save(tmp_path / "g", graph)
    assert manifest.kind == "inheritance"
    back = load(tmp_path / "g")
    assert_same(back, graph)
    assert all(back.id(name) == graph.id(name) for name in graph.names)


def test_a_graph_that_is_not_trained_comes_back(tmp_path):
    graph = Graph.create(NODES, EDGES)
    save(tmp_path / "g", graph)
    assert_same(load(tmp_path / "g"), graph)


def test_dtypes_and_plain_trees_come_back(tmp_path):
    variables = {"params": {"w": jnp.ones((1, 3), jnp.bfloat16) / 3}, "seen": {}}
    graph = Graph.create(
        [Node("a", 0, [0])], models={"default": Models(variables, {"w": jnp.ones(1)})}
    )
    save(tmp_path / "g", graph)
    assert_same(load(tmp_path / "g"), graph)


def test_an_older_graph_is_replaced_only_if_asked(tmp_path):
    save(tmp_path / "g", diamond())
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save(tmp_path / "g", diamond(True))
    save(tmp_path / "g", diamond(True), overwrite=True)
    assert_same(load(tmp_path / "g"), diamond(True))


def test_other_checkpoints_are_refused(tmp_path):
    checkpointing.save(tmp_path / "v", {"a": jnp.ones(2)}, kind="variables")
    with pytest.raises(ValueError, match="holds 'variables', not 'inheritance'"):
        load(tmp_path / "v")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")


def test_a_fisher_that_would_not_come_back_is_refused(tmp_path):
    graph = Graph.create(
        [Node("a", 0, [0])],
        models={"default": Models({"params": {}}, (jnp.ones(1),))},
    )
    with pytest.raises(TypeError, match=r"models\['default'\].fisher .* got tuple"):
        save(tmp_path / "g", graph)
    assert not (tmp_path / "g").exists()


def _saved_with(path, **changes):
    """A checkpoint whose configuration is not the one that belongs to its graph."""
    save(path, Graph.create(NODES, EDGES))
    config = {**checkpointing.read_manifest(path).config, **changes}
    checkpointing.save(path, {}, kind="inheritance", config=config, overwrite=True)


def test_ids_that_do_not_match_are_refused(tmp_path):
    graph = Graph.create(NODES, EDGES)
    ids = {name: graph.id(name) for name in graph.names}
    _saved_with(tmp_path / "ids", ids={**ids, "right": "0" * 16})
    with pytest.raises(ValueError, match="node 'right' has the id .* saved as 0000"):
        load(tmp_path / "ids")
    nodes = (dataclasses.replace(NODES[0], seed=4), *NODES[1:])
    _saved_with(tmp_path / "nodes", nodes=nodes)
    with pytest.raises(ValueError, match="its node 'start' has the id"):
        load(tmp_path / "nodes")
    _saved_with(tmp_path / "gone", nodes=NODES[:4], edges=EDGES[:4])
    with pytest.raises(ValueError, match=r"nodes \['small'\] are gone"):
        load(tmp_path / "gone")


def test_a_loaded_graph_is_checked_again(tmp_path):
    edges = (*EDGES[:3], dataclasses.replace(EDGES[3], weight=0.5))
    _saved_with(tmp_path / "g", edges=edges)
    with pytest.raises(ValueError, match="weights of 'merged' must sum to one"):
        load(tmp_path / "g")
