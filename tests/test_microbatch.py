"""Sums in batches, against sums in float64."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperforget_jax.microbatch import batch_rows, compensated_sum


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
