"""Schedules against their definitions in float64, and DDPM's own thousand steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from hyperforget_jax.diffusion import SCHEDULES, mix, schedule

TIMES = np.linspace(0, 1, 1001)
BETAS = np.linspace(1e-4, 0.02, 1000)


def defined(name, t):
    """(alpha, sigma) in float64, as one reads them in the papers."""
    if name == "cosine":
        return np.cos(np.pi * t / 2), np.sin(np.pi * t / 2)
    spent = 0.1 * t + 19.9 * t**2 / 2
    return np.exp(-spent / 2), np.sqrt(1 - np.exp(-spent))


class Schedules(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*SCHEDULES)
    def test_equals_its_definition(self, name):
        alpha, sigma = self.variant(schedule(name))(jnp.asarray(TIMES, jnp.float32))
        expected = defined(name, TIMES)
        # Times are rounded by 6e-8, and slopes are below 5 (exponents reach 5).
        np.testing.assert_allclose(alpha, expected[0], atol=1e-6)
        np.testing.assert_allclose(sigma, expected[1], atol=1e-6)
        np.testing.assert_allclose(alpha**2 + sigma**2, np.ones(1001), atol=1e-6)
        assert alpha.dtype == sigma.dtype == jnp.float32

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*SCHEDULES)
    def test_signal_goes_and_noise_comes(self, name):
        alpha, sigma = self.variant(schedule(name))(jnp.asarray(TIMES, jnp.float32))
        # Where one of the two is near one, float32 cannot tell neighbours apart.
        assert (np.diff(alpha) <= 0).all() and (np.diff(alpha[::20]) < 0).all()
        assert (np.diff(sigma) >= 0).all() and (np.diff(sigma[:900:20]) > 0).all()
        assert alpha[0] == 1 and sigma[0] == 0
        assert alpha[-1] >= 0

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*SCHEDULES)
    def test_small_amounts_keep_their_digits(self, name):
        near_zero = np.float32(10.0 ** -np.arange(1, 20))
        _, sigma = self.variant(schedule(name))(near_zero)
        t = near_zero.astype(np.float64)
        expected = {
            "cosine": np.sin(np.pi * t / 2),
            "linear": np.sqrt(-np.expm1(-0.1 * t - 19.9 * t**2 / 2)),
        }[name]
        np.testing.assert_allclose(sigma, expected, rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*SCHEDULES)
    def test_gradients_are_finite_everywhere(self, name):
        def both(t):
            return jnp.stack(schedule(name)(t))

        times = jnp.asarray([0, 1e-30, 1e-6, 0.25, 0.5, 1], jnp.float32)
        slopes = self.variant(jax.vmap(jax.jacrev(both)))(times)
        assert np.isfinite(slopes).all()
        middle = slopes[3]
        expected = np.subtract(*(defined(name, 0.25 + h) for h in (1e-6, -1e-6))) / 2e-6
        np.testing.assert_allclose(middle, expected, rtol=1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    def test_mix_is_leaf_by_leaf(self):
        tree = {"a": jnp.ones((2, 3)), "b": (2 * jnp.ones(4),)}
        noise = jax.tree.map(lambda x: -x, tree)
        got = self.variant(lambda w: mix(x0=(w, tree), noise=(w, noise)))(0.5)
        chex.assert_trees_all_equal(got, jax.tree.map(jnp.zeros_like, tree))


def test_cosine_has_no_signal_at_the_end():
    alpha, sigma = schedule("cosine")(jnp.float32(1))
    assert alpha == 0 and sigma == 1


def test_linear_is_ddpm():
    """Betas are small, so that a product of (1 - beta) is an exponential of a sum.

    But for their squares: ``log(1 - beta) + beta`` adds up, to 3 % of alpha at the end.
    """
    alpha, _ = schedule("linear")(jnp.arange(1, 1001) / 1000)
    alpha = np.asarray(alpha, np.float64)
    alpha_bars = np.cumprod(1 - BETAS)
    np.testing.assert_allclose(alpha_bars[-1], 4.0e-5, rtol=0.01)
    np.testing.assert_allclose(alpha[:680], np.sqrt(alpha_bars[:680]), rtol=1e-2)
    np.testing.assert_allclose(alpha, np.sqrt(alpha_bars), atol=1e-2, rtol=0)
    squares = np.exp(np.cumsum(np.log1p(-BETAS) + BETAS) / 2)
    # A sum of betas is no integral: after i steps they differ by 1e-5 (i - i^2 / 1000),
    # at most 0.0025, and half of that is in alpha.
    np.testing.assert_allclose(alpha, np.sqrt(alpha_bars) / squares, rtol=1.3e-3)
    np.testing.assert_allclose(alpha[-1] ** 2, 4.0e-5, rtol=0.1)


def test_dtypes_are_kept_and_sums_are_of_float32():
    x0 = {"half": jnp.full(3, 256, jnp.bfloat16), "full": jnp.ones(2)}
    got = mix(x0=(1.0, x0), noise=(-255 / 256, x0))
    assert got["half"].dtype == jnp.bfloat16 and got["full"].dtype == jnp.float32
    # In bfloat16 the weight alone would round to one, and the sum to zero.
    np.testing.assert_array_equal(got["half"].astype(jnp.float32), np.ones(3))


@pytest.mark.parametrize("name", ["", "Cosine", "sigmoid"])
def test_unknown_schedule(name):
    with pytest.raises(ValueError, match=f"schedule must be one of .* got '{name}'"):
        schedule(name)


@pytest.mark.parametrize("noise", [{"a": jnp.ones(1)}, {"b": jnp.ones(3)}, jnp.ones(3)])
def test_noise_that_does_not_match(noise):
    with pytest.raises(
        ValueError, match="noise must have the structure and the shapes"
    ):
        mix(x0=(0.8, {"a": jnp.ones(3)}), noise=(0.6, noise))
