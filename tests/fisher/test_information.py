"""What may be compared, what a Fisher may hold, and parts of parameters by path."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import hyperforget_jax as hf
from hyperforget_jax import trees

TREE = {"Block_0": {"Conv_0": {"kernel": jnp.ones((2, 3))}}, "Dense_1": jnp.ones(3)}
FISHER = hf.fisher.Fisher(TREE, jnp.float32(1), "per_example", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"estimator": "batch_gradient", "batch_size": 8},
            "mixed estimators: one Fisher is estimator='per_example', "
            "the other estimator='batch_gradient', batch_size=8. Two "
            "are comparable if",
        ),
        ({"values": {"Dense_1": TREE["Dense_1"]}}, "different parameters.*Conv_0/k"),
        (
            {"values": {**TREE, "Dense_1": jnp.ones((3, 4))}},
            r"differ in shape at Dense_1: \(3,\) and \(3, 4\)",
        ),
    ],
    ids=["estimator", "parameters", "shape"],
)
def test_unlike_fishers_are_refused_also_under_a_trace(change, message):
    other = dataclasses.replace(FISHER, **change)
    for check in (hf.fisher.check_comparable, jax.jit(hf.fisher.check_comparable)):
        with pytest.raises(ValueError, match=message):
            check(FISHER, other)


def test_batch_sizes_are_not_mixed():
    batched = dataclasses.replace(FISHER, estimator="batch_gradient", batch_size=8)
    with pytest.raises(ValueError, match="batch_size=8.*batch_size=16"):
        hf.fisher.check_comparable(batched, dataclasses.replace(batched, batch_size=16))


def test_a_stack_is_like_each_of_its_own():
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), FISHER)
    hf.fisher.check_comparable(stacked, FISHER)
    hf.fisher.check_comparable(FISHER, FISHER)


def test_a_scope_is_cut_out_and_laid_over_again():
    part = trees.restrict(TREE, ("Block_0/Conv_0",))
    assert jax.tree.map(jnp.shape, part) == {"Block_0": {"Conv_0": {"kernel": (2, 3)}}}
    doubled = trees.overlay(TREE, jax.tree.map(lambda leaf: 2 * leaf, part))
    assert jax.tree.structure(doubled) == jax.tree.structure(TREE)
    assert (doubled["Block_0"]["Conv_0"]["kernel"] == 2).all()
    assert (doubled["Dense_1"] == 1).all() and (TREE["Dense_1"] == 1).all()
    assert trees.restrict(TREE, ("Dense_1", "Block_0")) == TREE


def test_a_scope_that_leads_nowhere_is_refused():
    # A path's beginning is no path: Dense_1 is not Dense_10's.
    for wanted in ("Dense", "Block_0/Conv_1", "Dense_1/kernel"):
        with pytest.raises(ValueError, match=f"scope has '{wanted}'.*Block_0/Conv_0/k"):
            trees.restrict(TREE, (wanted,))
    with pytest.raises(ValueError, match="names no parameters"):
        trees.restrict(TREE, ())
    with pytest.raises(TypeError, match="tuple of paths, got the string 'Dense_1'"):
        trees.restrict(TREE, "Dense_1")
    with pytest.raises(ValueError, match="'Block_0/Conv_9', which the parameters"):
        trees.overlay(TREE, {"Block_0": {"Conv_9": jnp.ones(3)}})
    with pytest.raises(ValueError, match="'Dense_1/kernel', which the param"):
        trees.overlay(TREE, {"Dense_1": {"kernel": jnp.ones(3)}})
