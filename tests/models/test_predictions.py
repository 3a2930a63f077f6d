"""Logits in batches are the logits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperforget_jax import chunking
from hyperforget_jax.base import Classifier
from hyperforget_jax.models import logits, population_logits
from tests.softmax import linear, make_examples, make_variables

__all__ = ["linear", "make_examples", "make_variables"]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 15, 16, 512])
def test_logits_in_batches_equal_logits_at_once(
    linear, make_variables, make_examples, batch_size
):
    variables, x = make_variables(0), make_examples(0, 15).x
    got = logits(linear, variables, x, batch_size=batch_size)
    # The same float32 products, summed in another order for another batch shape.
    np.testing.assert_allclose(got, linear.apply(variables, x), rtol=1e-6, atol=1e-6)


def test_logits_hold_no_more_than_a_batch(linear, make_variables, make_examples):
    seen = []

    def apply(variables, x):
        seen.append(x.shape[0])
        return linear.apply(variables, x)

    watched = Classifier(linear.init, apply, linear.apply_train)
    got = logits(watched, make_variables(0), make_examples(0, 100).x, batch_size=32)
    assert got.shape == (100, 4)
    assert seen == [25]


def test_logits_are_at_least_float32(make_variables, make_examples):
    half = Classifier(None, lambda variables, x: x.astype(jnp.bfloat16), None)
    assert logits(half, {}, make_examples(0, 5).x).dtype == jnp.float32


def test_logits_are_traced_once_for_models_of_one_kind(make_variables, make_examples):
    traces = []

    def apply(variables, x):
        traces.append(x.shape)
        return x @ variables["params"]["weight"]

    counted = Classifier(None, apply, None)
    for seed in range(3):
        logits(counted, make_variables(seed), make_examples(seed, 10).x, batch_size=4)
    assert len(traces) == 1


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_population_logits_equal_a_loop(
    linear, make_variables, make_examples, at_once, monkeypatch
):
    monkeypatch.setattr(chunking, "chunk_size", lambda *_: at_once)
    population_logits.clear_cache()
    x = make_examples(0, 15).x
    got = population_logits(linear, make_variables(list(range(5))), x, batch_size=4)
    expected = [linear.apply(make_variables(seed), x) for seed in range(5)]
    chex.assert_shape(got, (5, 15, 4))
    # As above: float32 sums in another order.
    np.testing.assert_allclose(got, np.stack(expected), rtol=1e-6, atol=1e-6)


def test_logits_can_be_jitted_and_vmapped(linear, make_variables, make_examples):
    x = make_examples(0, 15).x
    stacked = make_variables([0, 1])
    got = jax.jit(jax.vmap(lambda v: logits(linear, v, x, batch_size=4)))(stacked)
    expected = population_logits(linear, stacked, x)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
