"""Rounded parameters, against NumPy, and what rounding brings back."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.audits import quantise, quantised_scores
from tests import toys


def some_variables(seed=0):
    draw = np.random.default_rng(seed)
    kernel = draw.normal(size=(3, 3, 2, 5)).astype(np.float32)
    kernel[..., 4] = 0  # A channel that is off.
    layer = {"kernel": kernel, "bias": draw.normal(size=5).astype(np.float32)}
    mean = draw.normal(size=5).astype(np.float32)
    tree = {"params": {"Conv_0": layer}, "batch_stats": {"mean": mean}}
    return jax.tree.map(jnp.asarray, tree)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_bfloat16_is_that_of_numpy(wrap):
    variables = some_variables()
    # A cast and back is left out by XLA under jit.
    found = wrap(lambda v: quantise(v, "bfloat16"))(variables)
    for name, leaf in variables["params"]["Conv_0"].items():
        expected = np.asarray(leaf).astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(found["params"]["Conv_0"][name], expected)
    np.testing.assert_array_equal(
        found["batch_stats"]["mean"], variables["batch_stats"]["mean"]
    )


def test_int8_is_one_scale_an_output_channel():
    variables = some_variables()
    found = quantise(variables, "int8")["params"]["Conv_0"]
    layer = jax.tree.map(np.asarray, variables["params"]["Conv_0"])
    for channel in range(5):
        kernel = layer["kernel"][..., channel].astype(np.float64)
        scale = np.abs(kernel).max() / 127
        whole = np.rint(kernel / scale) if scale else 0 * kernel
        assert np.abs(whole).max() in (0, 127)
        np.testing.assert_allclose(
            found["kernel"][..., channel], whole * scale, rtol=1e-6, atol=0
        )
    np.testing.assert_array_equal(found["bias"], layer["bias"])


def test_another_format_is_refused():
    with pytest.raises(ValueError, match=r"\('bfloat16', 'int8'\), got 'int4'"):
        quantise(some_variables(), "int4")


def head_of_ones(by):
    """Class 1 wins on every row of ones, or loses once a kernel is less by so much."""
    kernel = jnp.ones((6, 4)).at[:, 1].set(1.002 - by)
    return {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(4)}}}


def test_a_difference_below_the_step_is_gone_and_a_mask_stays():
    classifier = toys.softmax_regression()
    ones = jnp.ones(5, jnp.int32)
    # After rounding all four logits are equal, and the first class wins.
    data = hf.Examples(jnp.ones((5, 6)), 0 * ones, ones, jnp.arange(5))
    masked = {**head_of_ones(0.0), "output_mask": jnp.array([True, *[False] * 3])}
    for variables, before, after in (
        (head_of_ones(0.0), 0, 1),
        (head_of_ones(0.003), 1, 1),
        (masked, 0, 0),
    ):
        stacked = hf.trees.stack([variables] * 3)
        for form, expected in ((None, before), ("bfloat16", after)):
            found = quantised_scores(classifier, stacked, data, form)
            np.testing.assert_array_equal(found.accuracy, [expected] * 3)
    # Four equal logits: log(1/4) - log(3/4), whatever they were.
    found = quantised_scores(
        classifier, hf.trees.stack([head_of_ones(0.003)]), data, "bfloat16"
    )
    np.testing.assert_allclose(found.phi, -np.log(3), rtol=1e-5)
