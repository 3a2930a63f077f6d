"""Sums in batches, against sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperforget_jax.base import Examples
from hyperforget_jax.microbatch import batch_rows, compensated_sum, sum_over


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50))
def test_every_row_stands_in_one_batch(num_rows, batch_size):
    rows = np.asarray(batch_rows(num_rows, batch_size))
    assert rows.shape[1] == min(batch_size, num_rows)
    flat = rows.reshape(-1)
    np.testing.assert_array_equal(flat, np.arange(flat.size))
    assert num_rows <= flat.size < num_rows + rows.shape[1]


def test_a_long_sum_does_not_drift():
    # Added one by one in float32, terms of 0.1 drift by 1e-3 of the sum over 1e5 steps.
    values = np.full(100_000, 0.1, np.float32)
    exact = np.sum(values, dtype=np.float64)
    total = compensated_sum(
        lambda value: {"a": value, "b": -value}, jnp.asarray(values)
    )
    np.testing.assert_allclose(total["a"], exact, rtol=1e-7)
    np.testing.assert_allclose(total["b"], -exact, rtol=1e-7)


def test_what_absent_rows_hold_is_not_summed_nor_seen():
    x = np.arange(10, dtype=np.float32)
    weight = np.array([0, 1, 2, 1, 0, 0, 0, 0, 3, 1], np.int32)
    ids = np.arange(10, dtype=np.int32)
    x[weight == 0] = np.nan  # The second minibatch of four has nothing else.
    data = Examples(*map(jnp.asarray, (x, ids, weight, ids)))

    def term(batch):
        # By weight, as a loss is, but with a product that NaN would go through.
        return {"sum": jnp.sum(batch.weight * batch.x)}

    found = sum_over(term, data, 4)["sum"]
    assert found == np.sum((weight * x)[weight > 0])


def test_minibatches_of_absent_rows_alone_are_not_computed():
    """Padding costs nothing: of three minibatches of four the last two are nothing."""
    ids, computed = jnp.arange(12), []
    data = Examples(ids + 1.0, ids, (ids < 3).astype(jnp.int32), ids)

    def term(batch):
        jax.debug.callback(computed.append, batch.weight)
        return jnp.sum(batch.weight * batch.x)

    found = jax.jit(lambda data: sum_over(term, data, 4))(data)
    jax.effects_barrier()
    assert found == 6
    (only,) = computed
    np.testing.assert_array_equal(only, [1, 1, 1, 0])
