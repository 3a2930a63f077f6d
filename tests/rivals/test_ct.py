"""CT: which kernels are transposed, and a step of what follows."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests.rivals.by_numpy import (
    CLASSIFIER,
    KEPT,
    ROWS,
    VARIABLES,
    assert_weights,
    gradient,
    unlearned,
    weights,
)


class TwoShapes(nn.Module):
    """A square convolution, one that is not, and the head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (3, 2), name="oblong")(nn.Conv(2, (3, 3), name="square")(x))
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


def test_square_kernels_are_transposed():
    classifier = hf.from_linen(TwoShapes())
    x = jax.random.normal(jax.random.key(3), (8, 4, 4, 1))
    data = hf.data.examples(x, np.arange(8) % 4)
    variables = jax.jit(classifier.init)(jax.random.key(0), x)
    unlearner = hf.rivals.ct(classifier, optimizer=optax.sgd(0.0), steps=1)
    state = unlearner.init(jax.random.key(1), variables, data)
    request = hf.forget_rows(data, [0])
    after, _ = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
    before, after = variables["params"], after.variables["params"]
    square = np.swapaxes(before["square"]["kernel"], 0, 1)
    np.testing.assert_array_equal(after["square"]["kernel"], square)
    for name in ("oblong", "Dense_0"):
        np.testing.assert_array_equal(after[name]["kernel"], before[name]["kernel"])


def test_a_perceptron_is_fine_tuned():
    w = weights(VARIABLES)
    unlearner = hf.rivals.ct(
        CLASSIFIER, optimizer=optax.sgd(0.5), steps=1, batch_size=64
    )
    expected = [one - 0.5 * g for one, g in zip(w, gradient(w, KEPT), strict=True)]
    assert_weights(unlearned(unlearner, ROWS).variables, expected)


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_bad_settings_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        hf.rivals.ct(CLASSIFIER, **{name: 0})
