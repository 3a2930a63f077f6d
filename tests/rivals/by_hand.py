"""A perceptron with one hidden layer in NumPy: losses and gradients by hand."""

import functools
from typing import NamedTuple

import jax
import numpy as np

import hyperforget_jax as hf
from tests import toys

HIDDEN, HEAD = "Dense_0", "Dense_1"


def double(variables):
    """The params of ``toys.perceptron`` in float64."""
    return {
        layer: {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}
        for layer, leaves in variables["params"].items()
    }


def logits(params, x):
    return _hidden(params, x) @ params[HEAD]["kernel"] + params[HEAD]["bias"]


def _hidden(params, x):
    return np.maximum(x @ params[HIDDEN]["kernel"] + params[HIDDEN]["bias"], 0)


def softmax(z):
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def backward(params, x, by_logits):
    """Gradients of a sum over rows, of whose terms ``by_logits [N, C]`` are given."""
    hidden = _hidden(params, x)
    by_hidden = (by_logits @ params[HEAD]["kernel"].T) * (hidden > 0)
    return {
        HIDDEN: {"kernel": x.T @ by_hidden, "bias": by_hidden.sum(axis=0)},
        HEAD: {"kernel": hidden.T @ by_logits, "bias": by_logits.sum(axis=0)},
    }


def cross_entropy(params, x, y):
    """Gradients of the mean cross-entropy."""
    wrong = softmax(logits(params, x)) - np.eye(params[HEAD]["bias"].size)[y]
    return backward(params, x, wrong / len(x))


def distillation(params, x, target):
    """Gradients of the mean KL from distributions ``target [N, C]`` to the model's."""
    return backward(params, x, (softmax(logits(params, x)) - target) / len(x))


def combine(function, *trees):
    """A function of arrays, leaf by leaf."""
    return {
        layer: {
            name: function(*(tree[layer][name] for tree in trees))
            for name in trees[0][layer]
        }
        for layer in trees[0]
    }


def assert_close(variables, params, atol=2e-5):
    """float32 against float64: sums of forty rows, and steps of a tenth."""
    for layer, leaves in params.items():
        for name, leaf in leaves.items():
            found = variables["params"][layer][name]
            np.testing.assert_allclose(
                found, leaf, atol=atol, err_msg=f"{layer} {name}"
            )


def step(params, gradients, rate):
    """One step of plain descent."""
    return combine(lambda at, by: at - rate * by, params, gradients)


class World(NamedTuple):
    """Forty points of four classes, a perceptron, and the request to forget class 1."""

    data: hf.Examples
    classifier: hf.Classifier
    variables: dict
    request: hf.ForgetRequest
    x: np.ndarray
    y: np.ndarray
    gone: np.ndarray

    def unlearn(self, unlearner, key):
        """Answer the request by a fresh state."""
        state = unlearner.init(jax.random.key(1), self.variables, self.data)
        return jax.jit(unlearner.unlearn)(key, state, self.request)[0].variables


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y)
    request = hf.forget_classes(data, [1])
    return World(data, classifier, variables, request, x, y, y == 1)
