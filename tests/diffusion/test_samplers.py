"""Samplers where the best denoiser is known: Gaussian data, in closed form."""

import chex
import hypothesis
import hypothesis.strategies as st
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
    step,
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


def moments(name, eta, steps):
    """Mean and standard deviation of samples: every step is affine, so this is exact.

    The update as it stands in arXiv 2010.02502, in float64.
    """
    mean, variance = 0.0, 1.0
    for i in range(steps, 0, -1):
        alpha_t, sigma_t = levels_of(name, i / steps)
        alpha_s, sigma_s = levels_of(name, (i - 1) / steps)
        tau = eta * sigma_s / sigma_t * np.sqrt(1 - alpha_t**2 / alpha_s**2)
        kept = np.sqrt(max(sigma_s**2 - tau**2, 0)) / sigma_t
        slope = alpha_t * STD**2 / (alpha_t**2 * STD**2 + sigma_t**2)
        # x_s = alpha_s x0 + kept (x_t - alpha_t x0) + tau z, and x0 is affine in x_t.
        share = alpha_s - kept * alpha_t
        mean = share * (MEAN + slope * (mean - alpha_t * MEAN)) + kept * mean
        variance = (share * slope + kept) ** 2 * variance + tau**2
    return mean, np.sqrt(variance)


def draw(name, eta, steps):
    like = jax.ShapeDtypeStruct((COUNT,), jnp.float32)
    key = jax.random.key(0)
    run = jax.jit(
        lambda eta: sample(
            key, posterior_mean(name), like, schedule(name), steps=steps, eta=eta
        )
    )
    return np.asarray(run(eta), np.float64)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_samples_are_distributed_like_the_data(name, eta):
    samples = draw(name, eta, steps=400)
    # Five standard errors of a normal sample, 0.039 and 0.028. Beside them, the start
    # has no mean, but the data's at time 1 is alpha(1) MEAN, 0.01 at most, half of
    # which arrives; and steps that are not infinitely many shrink the spread by less
    # than 0.01 (an error of first order: 0.0093 for the linear schedule with eta = 1).
    np.testing.assert_allclose(samples.mean(), MEAN, atol=0.039 + 0.005)
    np.testing.assert_allclose(samples.std(), STD, atol=0.028 + 0.010)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_few_steps_give_the_moments_that_theory_says(name):
    """Ten steps are so few that one eta cannot pass for another."""
    spreads = {}
    for eta in (0.0, 0.7, 1.0):
        samples = draw(name, eta, steps=10)
        mean, spreads[eta] = moments(name, eta, steps=10)
        # Five standard errors.
        error = 5 * spreads[eta] / np.sqrt(COUNT)
        np.testing.assert_allclose(samples.mean(), mean, atol=error)
        np.testing.assert_allclose(samples.std(), spreads[eta], atol=error / np.sqrt(2))
    assert spreads[0.0] - spreads[1.0] > 5 * STD / np.sqrt(2 * COUNT)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_error_of_steps_is_of_first_order(name, eta):
    """What the tolerance above rests on."""
    many, more = (STD - moments(name, eta, steps)[1] for steps in (400, 800))
    assert 0 < many < 0.01
    np.testing.assert_allclose(many / more, 2, atol=0.1)
    assert abs(moments(name, eta, 400)[0] - MEAN) < 0.005


def test_ddim_is_affine_in_its_noise():
    """There is no noise but the start's, and theory says where each start goes."""
    like = jax.ShapeDtypeStruct((64,), jnp.float32)
    denoise, levels = posterior_mean("linear"), schedule("linear")
    run = jax.jit(lambda key: trajectory(key, denoise, like, levels, steps=100))
    path = run(jax.random.key(0))
    mean, spread = moments("linear", 0.0, 100)
    # A hundred steps of float32.
    np.testing.assert_allclose(path.x0[-1], mean + spread * path.x_t[0], atol=1e-4)


@jax.jit
def one_step(x0, x_t, noise, now, then, eta):
    return step(x0, x_t, noise, now, then, eta)


numbers = st.floats(-3, 3)


@hypothesis.given(st.integers(1, 999), st.integers(1, 300), numbers, numbers, numbers)
def test_eta_one_draws_from_the_posterior_of_ddpm(then, gap, x0, x_t, noise):
    """Mean and variance of q(x_s | x_t, x0), equation 7 of arXiv 2006.11239."""
    now = min(then + gap, 1000)
    alpha_bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    bar_t, bar_s = alpha_bars[now - 1], alpha_bars[then - 1]
    beta = 1 - bar_t / bar_s
    mean = (
        np.sqrt(bar_s) * beta / (1 - bar_t) * x0
        + np.sqrt(1 - beta) * (1 - bar_s) / (1 - bar_t) * x_t
    )
    beta_tilde = (1 - bar_s) / (1 - bar_t) * beta
    levels = (
        (jnp.float32(np.sqrt(bar)), jnp.float32(np.sqrt(1 - bar)))
        for bar in (bar_t, bar_s)
    )
    got = one_step(*map(jnp.float32, (x0, x_t, noise)), *levels, jnp.float32(1))
    # Between neighbours 1 - ratio^2 is beta and more, 1e-4 at least: three digits are
    # left of it in float32, and four of its root, 0.01, which noise of 3 multiplies.
    np.testing.assert_allclose(got, mean + np.sqrt(beta_tilde) * noise, atol=1e-4)


def test_the_noise_of_a_path_has_the_variance_of_ddpm():
    """As above, of what the sampler itself draws."""
    size = 20_000
    path = trajectory(
        jax.random.key(0),
        lambda x_t, t: jnp.full_like(x_t, 0.7),
        jax.ShapeDtypeStruct((size,), jnp.float32),
        schedule("linear"),
        steps=4,
        eta=1.0,
    )
    bars = [levels_of("linear", t)[0] ** 2 for t in (0.75, 0.5)]
    beta = 1 - bars[0] / bars[1]
    x_t, x_s = np.asarray(path.x_t[1:3], np.float64)
    mean = (np.sqrt(bars[1]) * beta * 0.7 + np.sqrt(1 - beta) * (1 - bars[1]) * x_t) / (
        1 - bars[0]
    )
    z = (x_s - mean) / np.sqrt((1 - bars[1]) / (1 - bars[0]) * beta)
    # Five standard errors of mean, spread and correlation.
    assert abs(z.mean()) < 5 / np.sqrt(size)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * size)
    assert abs(np.corrcoef(z, x_t)[0, 1]) < 5 / np.sqrt(size)


class Samples(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters((0.0, "cosine"), (1.0, "linear"))
    def test_one_step_is_the_estimate_itself(self, eta, name):
        levels = schedule(name)
        run = self.variant(
            lambda key: trajectory(key, halve, LIKE, levels, steps=1, eta=eta)
        )
        path = run(jax.random.key(0))
        start = jax.tree.map(lambda x: x[0], path.x_t)
        got = self.variant(
            lambda key: sample(key, halve, LIKE, levels, steps=1, eta=eta)
        )(jax.random.key(0))
        chex.assert_trees_all_close(got, halve(start, 1.0), rtol=1e-6)
        np.testing.assert_array_equal(path.t, [1])

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_key_says_all(self):
        run = self.variant(
            lambda key: sample(key, halve, LIKE, COSINE, steps=5, eta=1.0)
        )
        first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
        chex.assert_trees_all_equal(first, again)
        assert not np.allclose(first["tokens"], other["tokens"])
        # Leaves have noise of their own.
        assert not np.allclose(first["tokens"].reshape(-1)[:4], first["bias"][0])

    @chex.variants(with_jit=True, without_jit=True)
    def test_trajectory_ends_in_the_sample(self):
        key = jax.random.key(3)
        options = dict(steps=6, eta=0.5)
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
            return sample(key, halve, LIKE, COSINE, steps=4, eta=1.0)

        keys = jax.random.split(jax.random.key(0), 3)
        together = self.variant(jax.vmap(run))(keys)
        singly = jax.tree.map(lambda *x: np.stack(x), *map(jax.jit(run), keys))
        chex.assert_trees_all_close(together, singly, rtol=1e-5)


def test_one_compilation_serves_every_eta():
    traces = []

    @jax.jit
    def run(eta):
        traces.append(1)
        return sample(jax.random.key(0), halve, LIKE, COSINE, steps=4, eta=eta)

    traced = run(0.0)
    assert not np.allclose(traced["tokens"], run(1.0)["tokens"])
    assert len(traces) == 1
    known = sample(jax.random.key(0), halve, LIKE, COSINE, steps=4)
    chex.assert_trees_all_close(traced, known, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_thousand_steps_and_their_gradient_are_finite(name, eta):
    def size(scale):
        x = sample(
            jax.random.key(0),
            lambda x_t, t: jax.tree.map(lambda x: scale * x, x_t),
            LIKE,
            schedule(name),
            steps=1000,
            eta=eta,
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
        eta=1.0,
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(got, like)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_perfect_denoiser_is_believed(eta):
    x0 = {"tokens": jnp.arange(6.0).reshape(2, 3), "bias": (jnp.ones(4),)}
    path = trajectory(
        jax.random.key(0), lambda x_t, t: x0, LIKE, COSINE, steps=5, eta=eta
    )
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[-1], path.x0), x0)
    # DDIM keeps the noise it started with, DDPM does not.
    start, third = (jax.tree.map(lambda x, i=i: x[i], path.x_t) for i in (0, 2))
    alpha, sigma = COSINE(path.t[2])
    kept = mix(x0=(alpha, x0), noise=(sigma, start))
    is_kept = np.allclose(third["tokens"], kept["tokens"], atol=1e-5)
    assert is_kept == (eta == 0)


def test_no_key_is_used_twice():
    with jax.debug_key_reuse(True):
        sample(jax.random.key(0), halve, LIKE, COSINE, steps=3, eta=1.0)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(steps=0), "steps must be positive, got steps=0"),
        (dict(steps=2.0), "steps must be a whole number.* got steps=2.0"),
        (dict(steps=True), "steps must be a whole number.* got steps=True"),
        (dict(steps=2, eta=1.5), r"eta must be in \[0, 1\], got eta=1.5"),
        (dict(steps=2, eta=-0.1), r"eta must be in \[0, 1\]"),
        (dict(steps=2, eta=float("nan")), r"eta must be in \[0, 1\]"),
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
