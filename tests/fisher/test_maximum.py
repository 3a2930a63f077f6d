"""The maximum of several Fishers, and who is reached."""

import functools

import chex
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf

ROOTS = 3
ALL = np.ones((1, ROOTS), bool)


def stacked(values, weight=None):
    weight = np.ones(len(values)) if weight is None else weight
    tree = {"kernel": np.float32(values), "bias": np.float32(values)[:, 0]}
    return hf.fisher.Fisher(tree, np.float32(weight), "per_example", None)


maximum = jax.jit(hf.fisher.maximum)
matrices = hypothesis.extra.numpy.arrays(
    np.float32, (ROOTS, 2, 2), elements=st.floats(0, 1e6, width=32)
)
weights = hypothesis.extra.numpy.arrays(
    np.float32, (ROOTS,), elements=st.floats(1, 1e4, width=32)
)
reaches = hypothesis.extra.numpy.arrays(bool, (2, ROOTS))


@hypothesis.given(values=matrices, weight=weights, reach=reaches)
def test_equals_a_loop_over_roots(values, weight, reach):
    got = maximum(stacked(values, weight), reach)
    for model in range(2):
        roots = np.flatnonzero(reach[model])
        expected = np.max(values[roots], axis=0, initial=0)
        # But for numbers below the smallest normal one, which may count as zero.
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-30)
        close(got.values["kernel"][model], expected)
        close(got.values["bias"][model], expected[0])
        # Sums of float32.
        total = np.sum(np.float64(weight)[roots])
        np.testing.assert_allclose(got.total_weight[model], total, rtol=2e-6)
    assert (got.estimator, got.batch_size) == ("per_example", None)


@hypothesis.given(values=matrices, order=st.permutations(range(ROOTS)))
def test_order_does_not_matter(values, order):
    one, other = (maximum(stacked(v), ALL) for v in (values, values[np.array(order)]))
    chex.assert_trees_all_equal(one.values, other.values)


class ReachTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_what_does_not_reach_does_not_count_whatever_it_is(self):
        values = np.stack([np.full((2, 2), v) for v in (1, np.nan, 3)])
        fishers = stacked(values, [2, np.nan, 4])
        reach = np.array([[True, False, True], [False, False, False]])
        merge = self.variant(hf.fisher.maximum)
        got = merge(fishers, reach)
        np.testing.assert_array_equal(got.values["kernel"][0], np.full((2, 2), 3))
        np.testing.assert_array_equal(got.values["kernel"][1], np.zeros((2, 2)))
        np.testing.assert_array_equal(got.total_weight, [6, 0])
        # What is reached is not hidden.
        assert jnp.isnan(merge(fishers, ALL).values["kernel"]).all()


def test_no_model_sees_all_roots_at_once():
    """Twenty roots, ten models: nothing of their product's size is made."""
    fishers = stacked(np.ones((20, 7, 3)))
    jaxpr = jax.make_jaxpr(hf.fisher.maximum)(fishers, np.ones((10, 20), bool))
    assert "[10,20,7" not in str(jaxpr) and "[20,10,7" not in str(jaxpr)
    assert "[10,7,3]" in str(jaxpr)
