"""What is left of a Fisher is that of the examples that are left."""

import dataclasses

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import hyperforget_jax as hf
from tests import toys

DATA = toys.points()
CLASSIFIER = toys.softmax_regression()
VARIABLES = CLASSIFIER.init(jax.random.key(0), DATA.x)
exact = jax.jit(
    lambda data: hf.fisher.diagonal(CLASSIFIER, VARIABLES, data, batch_size=8)
)
batched = jax.jit(
    lambda data: hf.fisher.diagonal(
        CLASSIFIER, VARIABLES, data, estimator="batch_gradient", batch_size=8
    )
)
without = jax.jit(hf.fisher.without)
rows = st.lists(st.integers(0, 39), min_size=1, max_size=30, unique=True)


def made(values, mass, **kind):
    own = {"estimator": "per_example", "batch_size": None, **kind}
    values = {"w": jnp.asarray(values, jnp.float32)}
    return hf.fisher.Fisher(values, jnp.float32(mass), **own)


class WithoutTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_the_means_of_parts_make_the_mean_of_the_whole(self):
        got = self.variant(hf.fisher.without)(
            made([4.0, 1.0], 10), made([2.0, 0.5], 4), jnp.array([3, 1])
        )
        # (10 * 4 - 4 * 2) / 6 and (10 * 1 - 4 * 0.5) / 6.
        np.testing.assert_allclose(got.values["w"], [32 / 6, 8 / 6], rtol=1e-6)
        assert got.total_weight == 6 and got.total_weight.dtype == jnp.float32

    @chex.variants(with_jit=True, without_jit=True)
    def test_what_would_be_negative_is_zero(self):
        got = self.variant(hf.fisher.without)(
            made([1.0, 1.0], 10), made([9.0, 1.0], 4), jnp.array([0, 4])
        )
        assert got.values["w"].tolist() == [0, 1]

    @chex.variants(with_jit=True, without_jit=True)
    def test_nothing_left_is_finite(self):
        whole = made([3.0, 1.0], 10)
        # The second time more is taken out than there was.
        for weight in ([5, 5], [9, 9]):
            got = self.variant(hf.fisher.without)(
                whole, made([2.0, 1.0], 10), jnp.array(weight)
            )
            assert got.total_weight == 0 and got.values["w"].tolist() == [0, 0]


@hypothesis.given(rows=rows, scale=st.integers(1, 3))
def test_equals_the_fisher_of_the_rest(rows, scale):
    """``n F_D = n_f F_f + n_r F_r`` at the same weights, integer weights included."""
    weight = scale * (1 + jnp.arange(40, dtype=jnp.int32) % 3)
    data = DATA._replace(weight=weight)
    gone = np.isin(np.arange(40), rows)
    forget = data._replace(weight=jnp.where(gone, weight, 0))
    share = exact(forget)
    rest = exact(data._replace(weight=jnp.where(gone, 0, weight)))
    got = without(exact(data), share, forget.weight)
    assert got.total_weight == rest.total_weight == np.sum(np.asarray(weight)[~gone])
    # A difference of float32 sums: errors are relative to the whole, not to the rest.
    atol = 1e-5 * float(jnp.max(exact(data).values["Dense_0"]["kernel"]))
    chex.assert_trees_all_close(got.values, rest.values, rtol=1e-4, atol=atol)


def test_whole_minibatches_are_taken_out_exactly():
    head, tail = DATA.take(jnp.arange(8)), DATA.take(jnp.arange(8, 40))
    share = batched(head)
    got = without(batched(DATA), share, head.weight)
    assert got.total_weight == 4 and got.batch_size == 8
    # A fifth of a float32 sum is taken away.
    chex.assert_trees_all_close(got, batched(tail), rtol=1e-4, atol=1e-8)


def by_numpy(weight, rows):
    """Mean squared gradient of the minibatches of eight, in float64, and how many."""
    params = jax.tree.map(np.float64, VARIABLES["params"]["Dense_0"])
    squares = []
    for first in range(0, len(rows), 8):
        of = rows[first : first + 8]
        if weight[of].sum() == 0:
            continue
        x, y = np.float64(DATA.x[of]), np.asarray(DATA.y[of])
        p = scipy.special.softmax(x @ params["kernel"] + params["bias"], axis=1)
        out = (p - np.eye(4)[y]) * weight[of, None] / weight[of].sum()
        squares.append({"kernel": (x.T @ out) ** 2, "bias": out.sum(axis=0) ** 2})
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *squares), len(squares)


@hypothesis.given(
    weight=st.lists(st.integers(0, 9), min_size=40, max_size=40),
    gone=st.lists(st.integers(0, 39), min_size=8, max_size=8, unique=True),
)
def test_minibatches_are_counted_by_rows_and_not_by_weight(weight, gone):
    weight, gone = np.array(weight), np.sort(gone)
    hypothesis.assume(weight[gone].any())
    data = DATA._replace(weight=jnp.asarray(weight))
    forget = data.take(jnp.asarray(gone))
    whole, count = by_numpy(weight, np.arange(40))
    share, _ = by_numpy(weight, gone)
    got = without(batched(data), batched(forget), forget.weight)
    left = count - np.count_nonzero(weight[gone]) / 8
    assert got.total_weight == left >= 0
    expected = jax.tree.map(
        lambda d, f: np.maximum(d * count - f * (count - left), 0) / max(left, 1 / 8),
        whole,
        share,
    )
    # Differences of float32 sums: errors are relative to the larger of the two.
    atol = 1e-5 * max(leaf.max() for leaf in jax.tree.leaves((whole, share)))
    chex.assert_trees_all_close(
        got.values["Dense_0"], expected, rtol=1e-4, atol=atol * 8
    )


def test_less_than_a_minibatch_counts_as_a_share_of_one():
    whole, share = batched(DATA), batched(DATA.take(jnp.arange(8)))
    got = without(whole, share, jnp.array([0, 3, 0, 1]))
    assert got.total_weight == 4.75
    expected = jax.tree.map(
        lambda d, f: np.maximum(5 * np.float64(d) - 0.25 * np.float64(f), 0) / 4.75,
        whole.values,
        share.values,
    )
    # Three float32 operations.
    chex.assert_trees_all_close(got.values, expected, rtol=1e-5, atol=1e-9)


def test_nothing_taken_out_changes_nothing():
    whole = made([3.0, 0.1], 7)
    got = hf.fisher.without(whole, made([5.0, 5.0], 2), jnp.zeros(3, jnp.int32))
    # A product and a quotient.
    chex.assert_trees_all_close(got, whole, rtol=1e-6)


def test_other_kinds_are_refused():
    whole = made([1.0, 1.0], 4)
    kind = {"estimator": "batch_gradient", "batch_size": 8}
    with pytest.raises(ValueError, match="mixed estimators"):
        hf.fisher.without(whole, made([1.0, 1.0], 2, **kind), jnp.ones(2))
    other = dataclasses.replace(whole, values={"v": whole.values["w"]})
    with pytest.raises(ValueError, match="cover different parameters"):
        hf.fisher.without(whole, other, jnp.ones(2))


def test_a_sum_of_weights_is_refused():
    whole = made([1.0, 1.0], 4)
    with pytest.raises(ValueError, match=r"weight must be \[F\].*shape \(\)"):
        hf.fisher.without(whole, whole, 3)
