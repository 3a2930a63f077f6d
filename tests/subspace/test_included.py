"""Nothing leaves a sum twice, and nothing that was never in it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperforget_jax.base import Examples
from hyperforget_jax.subspace.store import check_included, include, remove


def _examples(ids, weight=None):
    ids = jnp.asarray(ids, jnp.int32)
    weight = jnp.ones_like(ids) if weight is None else jnp.asarray(weight, jnp.int32)
    return Examples(jnp.zeros((ids.size, 2)), jnp.zeros_like(ids), weight, ids)


class Remove(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_takes_out_what_is_in(self):
        included = include(_examples([7, 3, 5]))[0]
        left, taken, refused = self.variant(remove)(included, _examples([5, 4, 7]))
        np.testing.assert_array_equal(left.id, [3, 5, 7])
        np.testing.assert_array_equal(left.weight, [1, 0, 0])
        np.testing.assert_array_equal(taken.weight, [1, 0, 1])
        assert refused == 1

    @chex.variants(with_jit=True, without_jit=True)
    def test_not_twice(self):
        included, _, _ = remove(include(_examples([3, 5]))[0], _examples([5]))
        left, taken, refused = self.variant(remove)(included, _examples([5, 3]))
        np.testing.assert_array_equal(left.weight, [0, 0])
        np.testing.assert_array_equal(taken.weight, [0, 1])
        assert refused == 1


@given(
    st.lists(st.integers(0, 8), unique=True, min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_equals_a_dictionary(held, asked):
    included = include(_examples(held, [1 + i % 2 for i in range(len(held))]))[0]
    inside = {id: 1 + i % 2 for i, id in enumerate(held)}
    if not asked:
        return
    ids, weight = zip(*asked, strict=True)
    left, taken, refused = remove(included, _examples(ids, weight))
    totals = {id: sum(w for i, w in asked if i == id) for id in ids}
    granted = [w if totals[i] <= inside.get(i, 0) else 0 for i, w in asked]
    np.testing.assert_array_equal(taken.weight, granted)
    denied = sum(w > 0 and g == 0 for (_, w), g in zip(asked, granted, strict=True))
    assert refused == denied
    for id, weight in zip(left.id.tolist(), left.weight.tolist(), strict=True):
        out = sum(g for (i, _), g in zip(asked, granted, strict=True) if i == id)
        assert weight == inside[id] - out


def test_padding_is_nothing():
    data = _examples([4, -1, -1], [1, 0, 0])
    included = include(data)[0]
    check_included(included, data)
    left, _, refused = remove(included, data)
    assert refused == 0 and not left.weight.any()


def test_errors():
    with pytest.raises(ValueError, match="got id 4 in 2 rows"):
        include(_examples([4, 4, 2]))
    included = include(_examples([1, 2, 3]))[0]
    with pytest.raises(ValueError, match="1 of the examples.*ids 9 were never added"):
        check_included(included, _examples([1, 9]))
    once, _, _ = remove(included, _examples([2]))
    with pytest.raises(ValueError, match="ids 2 were taken out before"):
        check_included(once, _examples([2]))
    check_included(once, _examples([2, 3]))  # One of them is still in.
    # Under a trace nothing can be raised.
    jax.jit(lambda e: check_included(once, e))(_examples([2]))
