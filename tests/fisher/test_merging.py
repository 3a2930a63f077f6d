"""Merging Fishers: the laws of a maximum, a sum and a mean, and who is reached."""

import functools

import chex
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf

ROOTS = 3
HOW = ("max", "mean", "sum")


def stacked(values, mass=None):
    mass = np.ones(len(values)) if mass is None else mass
    tree = {"kernel": np.float32(values), "bias": np.float32(values)[:, 0]}
    return hf.fisher.Fisher(tree, np.float32(mass), "per_example", "given", None)


@functools.cache
def jitted(how):
    return jax.jit(functools.partial(hf.fisher.merge, how=how))


def by_loop(fishers, reach, how):
    """One model, one root after the other, in float64."""
    roots = np.flatnonzero(reach)
    mass = np.float64(fishers.mass)[roots]

    def merged(leaf):
        leaf = np.float64(leaf)[roots]
        if not len(roots):
            return np.zeros(leaf.shape[1:])
        wide = mass.reshape(-1, *[1] * (leaf.ndim - 1))
        return {
            "max": np.max(leaf, axis=0),
            "sum": np.sum(leaf, axis=0),
            "mean": np.sum(wide * leaf, axis=0) / np.sum(mass),
        }[how]

    return {name: merged(leaf) for name, leaf in fishers.values.items()}, mass.sum()


matrices = hypothesis.extra.numpy.arrays(
    np.float32, (ROOTS, 2, 2), elements=st.floats(0, 1e6, width=32)
)
masses = hypothesis.extra.numpy.arrays(
    np.float32, (ROOTS,), elements=st.floats(1, 1e4, width=32)
)
reaches = hypothesis.extra.numpy.arrays(bool, (2, ROOTS))


@pytest.mark.parametrize("how", HOW)
@hypothesis.given(values=matrices, mass=masses, reach=reaches)
def test_equals_a_loop_over_roots(how, values, mass, reach):
    fishers = stacked(values, mass)
    got = jitted(how)(fishers, reach=reach)
    for model in range(2):
        expected = by_loop(fishers, reach[model], how)
        one = jax.tree.map(lambda leaf, at=model: leaf[at], (got.values, got.mass))
        # A handful of float32 operations.
        chex.assert_trees_all_close(one, expected, rtol=2e-6, atol=1e-30)
    assert (got.estimator, got.labels, got.batch_size) == ("per_example", "given", None)


@hypothesis.given(values=matrices, order=st.permutations(range(ROOTS)))
def test_order_does_not_matter(values, order):
    for how in HOW:
        one, other = (
            jitted(how)(stacked(v)).values for v in (values, values[np.array(order)])
        )
        if how == "max":
            chex.assert_trees_all_equal(one, other)
        else:
            chex.assert_trees_all_close(one, other, rtol=1e-6)


@hypothesis.given(values=matrices)
def test_grouping_does_not_matter(values):
    a, b, c = values
    for how in ("max", "sum"):

        def pair(x, y, how=how):
            return jitted(how)(stacked([x, y])).values["kernel"]

        left, right = pair(pair(a, b), c), pair(a, pair(b, c))
        # A sum of three rounds in another place.
        rtol = 0 if how == "max" else 1e-6
        np.testing.assert_allclose(left, right, rtol=rtol)


@hypothesis.given(values=matrices)
def test_a_model_twice_is_the_model_and_one_root_is_itself(values):
    twice, once = stacked([values[0], values[0]]), stacked(values[:1])
    single = jax.tree.map(lambda leaf: leaf[0], once.values)
    chex.assert_trees_all_equal(jitted("max")(twice).values, single)
    for how in HOW:
        chex.assert_trees_all_equal(jitted(how)(once).values, single)


class ReachTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_what_does_not_reach_does_not_count_whatever_it_is(self):
        values = np.stack([np.full((2, 2), v) for v in (1, np.nan, 3)])
        fishers = stacked(values, [2, np.nan, 4])
        reach = np.array([[True, False, True], [False, False, False]])
        for how, expected in (("max", 3), ("sum", 4), ("mean", 14 / 6)):
            merge = self.variant(functools.partial(hf.fisher.merge, how=how))
            got = merge(fishers, reach=reach)
            kernel = got.values["kernel"]
            np.testing.assert_allclose(kernel[0], expected, rtol=1e-6)
            np.testing.assert_array_equal(kernel[1], np.zeros((2, 2)))
            np.testing.assert_array_equal(got.mass, [6, 0])
            # One row of reach gives one Fisher.
            one = merge(fishers, reach=reach[0])
            chex.assert_trees_all_close(
                one, jax.tree.map(lambda leaf: leaf[0], got), rtol=1e-6
            )
            # What is reached is not hidden.
            assert jnp.isnan(merge(fishers).values["kernel"]).all()


def test_no_model_sees_all_roots_at_once():
    """Twenty roots, ten models: nothing of their product's size is made."""
    fishers = stacked(np.ones((20, 7, 3)))
    jaxpr = jax.make_jaxpr(hf.fisher.merge)(fishers, reach=np.ones((10, 20), bool))
    assert "[10,20,7" not in str(jaxpr) and "[20,10,7" not in str(jaxpr)
    assert "[10,7,3]" in str(jaxpr)


def test_what_does_not_fit_is_refused():
    fishers = stacked(np.ones((ROOTS, 2, 2)))
    with pytest.raises(ValueError, match="how must be one of.*'max'.*got 'median'"):
        hf.fisher.merge(fishers, how="median")
    with pytest.raises(
        ValueError, match=r"\[M, J\] with J=3 Fishers, got shape \(2,\)"
    ):
        hf.fisher.merge(fishers, reach=np.ones(2, bool))
