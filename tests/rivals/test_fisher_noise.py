"""Fisher noise: the noise by hand, from the retained data alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.rivals import numpy_net


def test_noise_is_by_hand():
    data, classifier = toys.points(), toys.perceptron()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    # A hidden unit that nothing wakes has a Fisher of zero.
    variables["params"]["Dense_0"]["bias"] = jnp.array([-100.0, 0, 0, 0, 0])
    unlearner = hf.rivals.fisher_noise(classifier, alpha=0.01, batch_size=16)
    state = unlearner.init(jax.random.key(1), variables, data)
    request = hf.forget_rows(data, np.arange(8), num_classes=4)
    after, _ = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
    weights = numpy_net.weights_of(variables)
    x, y = np.asarray(data.x, float)[8:], np.asarray(data.y)[8:]
    out = numpy_net.residuals(weights, x, y)
    fishers = [np.square(e).mean(0) for e in numpy_net.gradients(weights, x, out)[0]]
    # Both sides of the bound are there.
    smallest, largest = min(f.min() for f in fishers), max(f.max() for f in fishers)
    assert smallest < 1e-3 < largest
    # One key a leaf, in the tree's order: biases come first.
    bias_0, kernel_0, bias_1, kernel_1 = jax.random.split(jax.random.key(2), 4)
    keys = (kernel_0, bias_0, kernel_1, bias_1)
    expected = [
        w + np.sqrt(0.01 / np.maximum(f, 1e-3)) * jax.random.normal(key, w.shape)
        for key, w, f in zip(keys, weights, fishers, strict=True)
    ]
    # Float32 against float64, of a few units.
    numpy_net.assert_params(after.variables["params"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["alpha", "batch_size"])
def test_hyper_parameters_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.fisher_noise(toys.perceptron(), **{name: 0})
