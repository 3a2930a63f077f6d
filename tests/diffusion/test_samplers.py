"""Samplers where the best denoiser is known: Gaussian data, in closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from hyperforget_jax.diffusion import (
    SCHEDULES,
    mix,
    sample,
    schedule,
    trajectory,
)

MEAN, STD, COUNT = 1.5, 0.5, 4096
LIKE = {
    "tokens": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "bias": (jax.ShapeDtypeStruct((4,), jnp.float32),),
}
COSINE = schedule("cosine")


def posterior_mean(name):
    """E[x0 | x_t] of data that are N(MEAN, STD^2), every number by itself."""

    def denoise(x_t, t):
        alpha, sigma = schedule(name)(t)
        slope = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return jax.tree.map(lambda x: MEAN + slope * (x - alpha * MEAN), x_t)

    return denoise


def halve(x_t, t):
    return jax.tree.map(lambda x: x / 2 + t, x_t)


def levels_of(name, t):
    """(alpha, sigma) in float64."""
    spent = 0.1 * t + 19.9 * t**2 / 2
    alpha = np.cos(np.pi * t / 2) if name == "cosine" else np.exp(-spent / 2)
    return alpha, np.sqrt(1 - alpha**2)


def moments(name, steps):
    """Mean and standard deviation of samples: every step is affine, so this is exact.

    The update as it stands in arXiv 2010.02502, in float64.
    """
    mean, variance = 0.0, 1.0
    for i in range(steps, 0, -1):
        alpha_t, sigma_t = levels_of(name, i / steps)
        alpha_s, sigma_s = levels_of(name, (i - 1) / steps)
        kept = sigma_s / sigma_t
        slope = alpha_t * STD**2 / (alpha_t**2 * STD**2 + sigma_t**2)
        # x_s = alpha_s x0 + kept (x_t - alpha_t x0), and x0 is affine in x_t.
        share = alpha_s - kept * alpha_t
        mean = share * (MEAN + slope * (mean - alpha_t * MEAN)) + kept * mean
        variance = (share * slope + kept) ** 2 * variance
    return mean, np.sqrt(variance)


def draw(name, steps):
    like = jax.ShapeDtypeStruct((COUNT,), jnp.float32)
    key = jax.random.key(0)
    run = jax.jit(
        lambda key: sample(key, posterior_mean(name), like, schedule(name), steps=steps)
    )
    return np.asarray(run(key), np.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_samples_are_distributed_like_the_data(name):
    samples = draw(name, steps=400)
    # Five standard errors of a normal sample, 0.039 and 0.028. Beside them, the start
    # has no mean, but the data's at time 1 is alpha(1) MEAN, 0.01 at most, half of
    # which arrives; and steps that are not infinitely many shrink the spread by less
    # than 0.01 (an error of first order).
    np.testing.assert_allclose(samples.mean(), MEAN, atol=0.039 + 0.005)
    np.testing.assert_allclose(samples.std(), STD, atol=0.028 + 0.010)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_few_steps_give_the_moments_that_theory_says(name):
    samples = draw(name, steps=10)
    mean, spread = moments(name, steps=10)
    # Five standard errors.
    error = 5 * spread / np.sqrt(COUNT)
    np.testing.assert_allclose(samples.mean(), mean, atol=error)
    np.testing.assert_allclose(samples.std(), spread, atol=error / np.sqrt(2))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_error_of_steps_is_of_first_order(name):
    """What the tolerance above rests on."""
    many, more = (STD - moments(name, steps)[1] for steps in (400, 800))
    assert 0 < many < 0.01
    np.testing.assert_allclose(many / more, 2, atol=0.1)
    assert abs(moments(name, 400)[0] - MEAN) < 0.005


def test_ddim_is_affine_in_its_noise():
    """There is no noise but the start's, and theory says where each start goes."""
    like = jax.ShapeDtypeStruct((64,), jnp.float32)
    denoise, levels = posterior_mean("linear"), schedule("linear")
    run = jax.jit(lambda key: trajectory(key, denoise, like, levels, steps=100))
    path = run(jax.random.key(0))
    mean, spread = moments("linear", 100)
    # A hundred steps of float32.
    np.testing.assert_allclose(path.x0[-1], mean + spread * path.x_t[0], atol=1e-4)


class Samples(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("cosine", "linear")
    def test_one_step_is_the_estimate_itself(self, name):
        levels = schedule(name)
        run = self.variant(lambda key: trajectory(key, halve, LIKE, levels, steps=1))
        path = run(jax.random.key(0))
        start = jax.tree.map(lambda x: x[0], path.x_t)
        got = self.variant(lambda key: sample(key, halve, LIKE, levels, steps=1))(
            jax.random.key(0)
        )
        chex.assert_trees_all_close(got, halve(start, 1.0), rtol=1e-6)
        np.testing.assert_array_equal(path.t, [1])

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_key_says_all(self):
        run = self.variant(lambda key: sample(key, halve, LIKE, COSINE, steps=5))
        first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
        chex.assert_trees_all_equal(first, again)
        assert not np.allclose(first["tokens"], other["tokens"])
        # Leaves have noise of their own.
        assert not np.allclose(first["tokens"].reshape(-1)[:4], first["bias"][0])

    @chex.variants(with_jit=True, without_jit=True)
    def test_trajectory_ends_in_the_sample(self):
        key = jax.random.key(3)
        options = dict(steps=6)
        path = self.variant(
            lambda key: trajectory(key, halve, LIKE, COSINE, **options)
        )(key)
        got = self.variant(lambda key: sample(key, halve, LIKE, COSINE, **options))(key)
        last = jax.tree.map(lambda x: x[-1], path.x0)
        chex.assert_trees_all_close(got, last, rtol=1e-6)
        chex.assert_trees_all_equal_shapes_and_dtypes(got, LIKE)
        np.testing.assert_allclose(path.t, np.arange(6, 0, -1) / 6, rtol=1e-6)
        assert path.x_t["tokens"].shape == path.x0["tokens"].shape == (6, 2, 3)
        # What is stored belongs together.
        estimates = jax.vmap(halve)(path.x_t, path.t)
        chex.assert_trees_all_close(path.x0, estimates, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_vmap_over_keys_is_one_by_one(self):
        def run(key):
            return sample(key, halve, LIKE, COSINE, steps=4)

        keys = jax.random.split(jax.random.key(0), 3)
        together = self.variant(jax.vmap(run))(keys)
        singly = jax.tree.map(lambda *x: np.stack(x), *map(jax.jit(run), keys))
        chex.assert_trees_all_close(together, singly, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_thousand_steps_and_their_gradient_are_finite(name):
    def size(scale):
        x = sample(
            jax.random.key(0),
            lambda x_t, t: jax.tree.map(lambda x: scale * x, x_t),
            LIKE,
            schedule(name),
            steps=1000,
        )
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x))

    value, slope = jax.jit(jax.value_and_grad(size))(0.9)
    assert np.isfinite(value) and np.isfinite(slope) and slope != 0


def test_like_may_be_arrays_and_dtypes_are_kept():
    like = [jnp.zeros((2, 3), jnp.bfloat16), np.zeros(4, np.float32)]
    # An estimate in float32 is brought to the sample's dtype.
    got = sample(
        jax.random.key(0),
        lambda x_t, t: jax.tree.map(lambda x: x.astype(jnp.float32), x_t),
        like,
        COSINE,
        steps=3,
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(got, like)


def test_a_perfect_denoiser_is_believed():
    x0 = {"tokens": jnp.arange(6.0).reshape(2, 3), "bias": (jnp.ones(4),)}
    path = trajectory(jax.random.key(0), lambda x_t, t: x0, LIKE, COSINE, steps=5)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[-1], path.x0), x0)
    # It keeps the noise it started with.
    start, third = (jax.tree.map(lambda x, i=i: x[i], path.x_t) for i in (0, 2))
    alpha, sigma = COSINE(path.t[2])
    kept = mix(x0=(alpha, x0), noise=(sigma, start))
    chex.assert_trees_all_close(third, kept, atol=1e-5)


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        sample(jax.random.key(0), halve, LIKE, COSINE, steps=3)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(steps=0), "steps must be positive, got steps=0"),
        (dict(steps=2.0), "steps must be a whole number.* got steps=2.0"),
        (dict(steps=True), "steps must be a whole number.* got steps=True"),
    ],
)
@pytest.mark.parametrize("sampler", [sample, trajectory])
def test_errors(sampler, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sampler(jax.random.key(0), halve, LIKE, COSINE, **options)


def test_steps_must_be_known_when_compiling():
    with pytest.raises(TypeError, match="known before tracing"):
        jax.jit(lambda n: sample(jax.random.key(0), halve, LIKE, COSINE, steps=n))(3)


@pytest.mark.parametrize(
    "denoise", [lambda x, t: x["tokens"], lambda x, t: {**x, "bias": (x["tokens"],)}]
)
def test_denoiser_must_keep_shapes(denoise):
    with pytest.raises(ValueError, match="denoise returns must have the structure"):
        sample(jax.random.key(0), denoise, LIKE, COSINE, steps=2)
