"""Graphs come back to the bit, or say why not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import checkpointing
from hyperforget_jax.inheritance import load, record, revisions, save
from tests.inheritance.graphs import DIAMOND, EDGES, NODES, state


def assert_same(left, right):
    # The structure has nodes, edges, audit and the Fisher's static fields in it.
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("fisher", [False, True])
def test_a_graph_comes_back_to_the_bit(tmp_path, fisher):
    before = state(fisher)
    thirds = jax.tree.map(lambda leaf: jnp.bfloat16(leaf / 3), before.variables)
    before = before._replace(variables=thirds)
    request = {"left": hf.forget_labels([1], num_classes=3)}
    audit = record((), DIAMOND, request, hf.FIUnConfig.head_reassign())
    manifest = save(tmp_path / "g", DIAMOND, before, audit)
    assert manifest.kind == "inheritance"
    graph, after, found = load(tmp_path / "g")
    assert (graph, found) == (DIAMOND, audit)
    assert_same(after, before)
    assert graph.ids(revisions(found)) == DIAMOND.ids(revisions(audit))


def test_an_older_graph_is_replaced_only_if_asked(tmp_path):
    save(tmp_path / "g", DIAMOND, state())
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save(tmp_path / "g", DIAMOND, state(True))
    save(tmp_path / "g", DIAMOND, state(True), overwrite=True)
    assert_same(load(tmp_path / "g")[1], state(True))


def test_other_checkpoints_are_refused(tmp_path):
    checkpointing.save(tmp_path / "v", {"a": jnp.ones(2)}, kind="variables")
    with pytest.raises(ValueError, match="holds 'variables', not 'inheritance'"):
        load(tmp_path / "v")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")


def test_what_is_no_state_of_the_graph_is_refused(tmp_path):
    with pytest.raises(TypeError, match="state must be a state of inheritance.fiun"):
        save(tmp_path / "g", DIAMOND, state().variables)
    with pytest.raises(ValueError, match="state.variables has nothing for"):
        save(tmp_path / "g", DIAMOND, state()._replace(variables={}))
    assert not (tmp_path / "g").exists()


def _saved_with(path, **changes):
    """A checkpoint whose configuration is not the one that belongs to its graph."""
    save(path, DIAMOND, state())
    config = {**checkpointing.read_manifest(path).config, **changes}
    checkpointing.save(path, state(), kind="inheritance", config=config, overwrite=True)


def test_ids_that_do_not_match_are_refused(tmp_path):
    ids = DIAMOND.ids()
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
