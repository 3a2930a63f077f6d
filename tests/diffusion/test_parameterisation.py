"""Predictions, data and noise: each can be had from any other."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from hyperforget_jax.diffusion import (
    PREDICTIONS,
    SCHEDULES,
    mix,
    schedule,
    target,
    to_x0,
)

RANDOM = np.random.default_rng(0)


def draw():
    return {
        "tokens": jnp.asarray(RANDOM.normal(size=(5, 3)), jnp.float32),
        "bias": (jnp.asarray(RANDOM.normal(size=4), jnp.float32),),
    }


X0, NOISE = draw(), draw()


@jax.jit(static_argnums=(0, 1))
def there_and_back(name, kind, t):
    alpha, sigma = schedule(name)(t)
    x_t = mix(x0=(alpha, X0), noise=(sigma, NOISE))
    return to_x0(kind, target(kind, X0, NOISE, alpha, sigma), x_t, alpha, sigma)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("name", SCHEDULES)
@hypothesis.given(t=st.floats(0.02, 0.98))
def test_targets_give_back_the_data(name, kind, t):
    # Sums of float32 numbers up to 3, divided by alpha (0.008 at least).
    chex.assert_trees_all_close(there_and_back(name, kind, t), X0, atol=2e-4)


class Targets(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(("x0", 2.0), ("v", 0.8 * -1.0 - 0.6 * 2.0), ("eps", -1.0))
    def test_equal_their_definitions(self, kind, expected):
        got = self.variant(lambda *trees: target(kind, *trees, 0.8, 0.6))(
            jnp.full(3, 2.0), jnp.full(3, -1.0)
        )
        np.testing.assert_allclose(got, np.full(3, expected), rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("x0", "v")
    def test_data_are_exact_without_any_signal(self, kind):
        """At alpha = 0, v is minus the data: no division is needed."""
        zero, one = jnp.float32(0), jnp.float32(1)
        prediction = target(kind, X0, NOISE, zero, one)
        got = self.variant(lambda v, x_t: to_x0(kind, v, x_t, zero, one))(
            prediction, NOISE
        )
        chex.assert_trees_all_equal(got, X0)

    @chex.variants(with_jit=True, without_jit=True)
    def test_the_divisor_has_a_floor(self):
        estimate = self.variant(lambda e, x_t: to_x0("eps", e, x_t, 0.0, 1.0))
        np.testing.assert_allclose(
            estimate(jnp.full(2, 1.0), jnp.full(2, 3.0)), np.full(2, 2000), rtol=1e-5
        )


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_gradients_are_finite_at_both_ends(kind):
    def size(prediction, t):
        alpha, sigma = schedule("cosine")(t)
        x0 = to_x0(kind, prediction, NOISE, alpha, sigma)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x0))

    slope = jax.jit(jax.grad(size, argnums=(0, 1)))
    for t in (0.0, 1.0):
        slopes = slope(X0, t)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_errors():
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'score'"):
        target("score", X0, NOISE, 0.8, 0.6)
    with pytest.raises(ValueError, match=r"kind must be one of .* got 'x'"):
        to_x0("x", X0, NOISE, 0.8, 0.6)
    with pytest.raises(ValueError, match="prediction must have the structure"):
        to_x0("v", X0["tokens"][:, :1], X0["tokens"], 0.8, 0.6)
