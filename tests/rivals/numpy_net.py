"""A perceptron with one hidden layer in NumPy, float64: gradients written by hand."""

import jax
import numpy as np


def weights_of(variables):
    """``[W1, b1, W2, b2]`` of ``toys.perceptron``."""
    layers = (variables["params"][f"Dense_{n}"] for n in range(2))
    return [np.asarray(layer[k], float) for layer in layers for k in ("kernel", "bias")]


def as_params(weights):
    """The same in the structure of the parameters."""
    return {
        f"Dense_{n}": {"kernel": weights[2 * n], "bias": weights[2 * n + 1]}
        for n in range(2)
    }


def hidden(weights, x):
    return np.maximum(x @ weights[0] + weights[1], 0)


def logits(weights, x):
    return hidden(weights, x) @ weights[2] + weights[3]


def softmax(z):
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def residuals(weights, x, y):
    """Gradients of the cross-entropies by the logits, ``[N, C]``."""
    p = softmax(logits(weights, x))
    return p - np.eye(p.shape[1])[y]


def gradients(weights, x, out):
    """Each example's gradients, ``[N, ...]``, given those by its logits, and by x."""
    h = hidden(weights, x)
    back = (out @ weights[2].T) * (h > 0)
    by_weights = [
        x[:, :, None] * back[:, None, :],
        back,
        h[:, :, None] * out[:, None, :],
        out,
    ]
    return by_weights, back @ weights[0].T


def flat(arrays):
    """Arrays ``[N, ...]`` side by side, ``[N, P]``."""
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)


def unflat(vector, weights):
    ends = np.cumsum([w.size for w in weights])[:-1]
    return [
        part.reshape(w.shape)
        for part, w in zip(np.split(vector, ends), weights, strict=True)
    ]


def assert_params(found, weights, **tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance),
        found,
        as_params(weights),
    )
