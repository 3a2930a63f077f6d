"""A perceptron with one hidden layer and its gradients, in NumPy and double precision.

The world of these tests: forty points, and ``toys.perceptron``.
"""

import jax
import numpy as np

import hyperforget_jax as hf
from tests import toys

CLASSIFIER = toys.perceptron()
DATA = toys.points()
VARIABLES = jax.jit(CLASSIFIER.init)(jax.random.key(0), DATA.x)
X, Y = np.asarray(DATA.x, np.float64), np.asarray(DATA.y)
# Eight rows to forget and thirty-two to retain: minibatches of 64 hold every row of
# either as often as another.
GONE, KEPT = np.arange(8), np.arange(8, 40)
ROWS = hf.forget_rows(DATA, GONE, num_classes=4)
NAMES = [("Dense_0", "kernel"), ("Dense_0", "bias")] + [
    ("Dense_1", "kernel"),
    ("Dense_1", "bias"),
]


def weights(variables):
    """``(kernel, bias, kernel, bias)``."""
    params = variables["params"]
    return [np.asarray(params[layer][name], np.float64) for layer, name in NAMES]


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def forward(w, x):
    """Hidden units and logits."""
    hidden = np.maximum(x @ w[0] + w[1], 0)
    return hidden, hidden @ w[2] + w[3]


def backward(w, x, slope):
    """The gradient that logits' own, ``[N, C]``, gives each weight, summed."""
    hidden, _ = forward(w, x)
    inner = slope @ w[2].T * (hidden > 0)
    return [x.T @ inner, inner.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]


def gradient(w, rows):
    """Of the cross-entropy's mean over rows of the data."""
    slope = softmax(forward(w, X[rows])[1]) - np.eye(4)[Y[rows]]
    return backward(w, X[rows], slope / len(rows))


def unlearned(unlearner, request):
    """The state after a request, from a fresh one."""

    @jax.jit
    def answer(variables, data, request):
        state = unlearner.init(jax.random.key(1), variables, data)
        return unlearner.unlearn(jax.random.key(2), state, request)[0]

    return answer(VARIABLES, DATA, request)


def assert_weights(variables, expected, atol=2e-5):
    """Equal to single precision: a few steps of forty rows of size ten."""
    for found, wanted in zip(weights(variables), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=atol)
