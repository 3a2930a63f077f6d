"""Which directions are protected, beside NumPy on the definitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperforget_jax.subspace.grams import Grams
from hyperforget_jax.subspace.spectrum import RANK_RULES, Spectrum, decompose, keep


def _grams(seed, width=6, rows=20):
    inputs = np.random.default_rng(seed).normal(size=(rows, width))
    inputs *= 0.5 ** np.arange(width)
    gram = jnp.asarray(inputs.T @ inputs, jnp.float32)
    return Grams({"A": gram[None]}, jnp.float32(rows)), inputs


def _of(values):
    values = jnp.asarray(values, jnp.float32)[None]
    basis = jnp.eye(values.shape[-1])[None]
    return Spectrum({"A": values}, {"A": basis}, {"A": jnp.zeros(())})


class Decompose(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_numpy(self):
        grams, inputs = _grams(0)
        spectrum = self.variant(decompose)(grams)
        expected = np.linalg.svd(inputs, compute_uv=False) ** 2
        # Eigenvalues of a float32 matrix: an absolute error of a few of its largest's
        # last places.
        np.testing.assert_allclose(
            spectrum.values["A"][0], expected, atol=1e-5 * expected[0]
        )
        basis = spectrum.basis["A"][0]
        np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-5)
        rebuilt = (basis * spectrum.values["A"]) @ basis.T
        np.testing.assert_allclose(
            rebuilt, grams.values["A"][0], atol=1e-5 * expected[0]
        )


def test_negative_mass_is_clipped_and_told():
    """A singular value decomposition would make 3, 2, 1 of this."""
    grams = Grams({"A": jnp.diag(jnp.array([3.0, 1.0, -2.0]))[None]}, jnp.float32(1))
    spectrum = decompose(grams)
    np.testing.assert_allclose(spectrum.values["A"][0], [3, 1, 0], atol=1e-6)
    np.testing.assert_allclose(spectrum.clipped["A"], 2 / 6, rtol=1e-6)


def test_no_data_keeps_nothing():
    spectrum = decompose(Grams({"A": jnp.zeros((1, 3, 3))}, jnp.float32(0)))
    params = {"A": {"kernel": jnp.ones((3, 2))}}
    for rule, threshold in zip(RANK_RULES, (0.9, 0.9, 0.1), strict=True):
        assert not keep(spectrum, rule, threshold, params)["A"].any()


@given(
    st.lists(st.floats(1e-3, 10), min_size=1, max_size=8),
    st.floats(0.02, 0.98),
)
@settings(max_examples=50, deadline=None)
def test_rules_equal_their_definitions(values, threshold):
    values = np.sort(np.float32(values))[::-1]
    roots = np.sqrt(values.astype(np.float64))
    shares = np.cumsum(roots) / roots.sum()
    energy = np.cumsum(values.astype(np.float64)) / values.sum(dtype=np.float64)
    # Where a share meets the threshold but for rounding, either answer is right.
    if np.abs(shares - threshold).min() < 1e-5:
        return
    nuclear = keep(_of(values), "nuclear", threshold)["A"]
    assert int(nuclear.sum()) == int((shares <= threshold).sum())
    if np.abs(energy - threshold).min() < 1e-5:
        return
    fewest = 1 + int(np.argmax(energy >= threshold))
    assert int(keep(_of(values), "energy", threshold)["A"].sum()) == fewest


def test_the_same_share_means_more_directions_by_nuclear_mass():
    values = 1.0 / jnp.arange(1, 200) ** 2
    nuclear, energy = (
        int(keep(_of(values), rule, 0.95)["A"].sum()) for rule in ("nuclear", "energy")
    )
    assert nuclear > 10 * energy


@pytest.mark.parametrize("tau", [0.1, 0.2, 0.5])
def test_drift_rule_bounds_what_it_says(tau):
    """No change as large as the weights, in what is left, moves outputs by more."""
    grams, inputs = _grams(1)
    weights = np.random.default_rng(2).normal(size=(6, 3))
    params = {"A": {"kernel": jnp.asarray(weights, jnp.float32)}}
    spectrum = decompose(grams)
    mask = np.asarray(keep(spectrum, "drift", tau, params)["A"][0])
    free = np.asarray(spectrum.basis["A"][0])[:, ~mask]
    assert 0 < free.shape[1] < 6
    change = free @ np.random.default_rng(3).normal(size=(free.shape[1], 3))
    change *= np.linalg.norm(weights) / np.linalg.norm(change)
    moved = np.linalg.norm(inputs @ change) / np.linalg.norm(inputs @ weights)
    assert moved <= tau * (1 + 1e-4)


def test_one_compilation_serves_every_rank():
    traces = []

    @jax.jit
    def count(spectrum, threshold):
        traces.append(1)
        return keep(spectrum, "nuclear", threshold)["A"].sum()

    values = jnp.arange(8.0, 0, -1)
    assert count(_of(values), 0.5) < count(_of(values), 0.9)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "rule, threshold, message",
    [
        ("rank", 0.9, "rank must be one of"),
        ("nuclear", 1.5, r"share in \[0, 1\]"),
        ("energy", -0.1, r"share in \[0, 1\]"),
        ("drift", 0.0, "must be positive"),
    ],
)
def test_errors(rule, threshold, message):
    with pytest.raises(ValueError, match=message):
        keep(_of([1.0]), rule, threshold)
