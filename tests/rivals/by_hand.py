"""A perceptron with one hidden layer in NumPy: losses and gradients by hand."""

import numpy as np

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
