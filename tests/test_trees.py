"""Paths, parts and stacking, against plain dictionaries and NumPy."""

import chex
import jax
import numpy as np
import pytest

from hyperforget_jax import trees

TREE = {"a": {"b": {"kernel": 1}, "c": {"kernel": 2}}, "d": {"kernel": 3}}


def test_an_entry_is_got_and_replaced_at_its_path():
    assert trees.get(TREE, "a/c") == {"kernel": 2}
    assert trees.get(TREE, "") == TREE
    changed = trees.replace(TREE, "a/c", {"kernel": 9, "bias": 0})
    assert trees.get(changed, "a/c") == {"kernel": 9, "bias": 0}
    assert trees.get(changed, "a/b") == {"kernel": 1}
    assert trees.get(TREE, "a/c") == {"kernel": 2}
    assert trees.replace(TREE, "", 5) == 5
    for path in ("a/z", "a/b/kernel/more", "e"):
        with pytest.raises(ValueError, match=f"'{path}' leads to no parameter; .*d/k"):
            trees.get(TREE, path)


def test_leaves_go_by_their_paths_in_the_order_of_jax():
    assert trees.by_path(TREE) == {"a/b/kernel": 1, "a/c/kernel": 2, "d/kernel": 3}
    assert list(trees.by_path(TREE).values()) == jax.tree.leaves(TREE)
    assert trees.leads_to("a/b", "a/b/kernel") and trees.leads_to("a/b", "a/b")
    assert not trees.leads_to("a/b", "a/bc/kernel")


def test_a_part_is_cut_out_and_laid_over():
    part = trees.restrict(TREE, ("a/b", "d/kernel"))
    assert part == {"a": {"b": {"kernel": 1}}, "d": {"kernel": 3}}
    doubled = jax.tree.map(lambda leaf: 2 * leaf, part)
    laid = trees.overlay(TREE, doubled)
    assert trees.by_path(laid) == {"a/b/kernel": 2, "a/c/kernel": 2, "d/kernel": 6}
    assert trees.matching(TREE, doubled) == part


def test_what_is_stacked_is_taken_again():
    draw = np.random.default_rng(0)
    each = [{"a": draw.normal(size=(2, 3)), "b": draw.normal(size=4)} for _ in range(3)]
    each = [jax.tree.map(np.float32, tree) for tree in each]
    stacked = trees.stack(each)
    assert stacked["a"].shape == (3, 2, 3)
    for index, tree in enumerate(each):
        chex.assert_trees_all_equal(trees.take(stacked, index), tree)
