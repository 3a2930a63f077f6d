"""Projected-gradient unlearning by hand, as published."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
import scipy.special

import hyperforget_jax as hf
from tests import toys
from tests.methods.pgu_worlds import KEY, begun, same, world

GAMMA, FIRST_RATE, LAST_RATE, ROUNDS = 0.95, 0.05, 0.01, 99
OFFSET, ENTROPY = 0.05, 0.2


class _Run(NamedTuple):
    layers: list  # Of kernel and bias.
    accuracies: list  # Before the first round, and after every one.
    shares: list  # Of the nuclear mass, cumulated.


def _transcription(params, data, forget):
    """Hoang et al., arXiv 2312.04095, of a perceptron in float64, full batches."""
    layers = [
        [np.asarray(params[name][leaf], np.float64) for leaf in ("kernel", "bias")]
        for name in ("Dense_0", "Dense_1")
    ]
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y)

    def inputs(x):
        (kernel, bias), _ = layers
        return x, np.maximum(x @ kernel + bias, 0)

    projectors, shares = [], []
    for whole, part in zip(inputs(x), inputs(x[forget]), strict=True):
        values, vectors = np.linalg.eigh(whole.T @ whole - part.T @ part)
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        singular = np.sqrt(values)
        share = np.cumsum(singular) / singular.sum()
        main = vectors[:, : np.count_nonzero(share <= GAMMA)]
        projectors.append(np.eye(values.size) - main @ main.T)
        shares.append(share)
    x, y = x[forget], y[forget]
    is_y = np.arange(toys.NUM_CLASSES)[None, :] == y[:, None]

    def accuracy():
        hidden = inputs(x)[1]
        return ((hidden @ layers[1][0] + layers[1][1]).argmax(axis=1) == y).mean()

    def step(number):
        rate = FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (number / (ROUNDS - 1))
        hidden = inputs(x)[1]
        logits = hidden @ layers[1][0] + layers[1][1]
        p = scipy.special.softmax(logits, axis=1)
        own = p[is_y][:, None]
        outward = own * (is_y - p) / (1 + OFFSET - own)
        mixed = p * (np.log(p) + scipy.special.entr(p).sum(axis=1, keepdims=True))
        above = (outward + ENTROPY * mixed) / y.size
        below = (above @ layers[1][0].T) * (hidden > 0)
        for layer, projector, given, slope in zip(
            layers, projectors, (x, hidden), (below, above), strict=True
        ):
            layer[0] = layer[0] - rate * projector @ (given.T @ slope)

    accuracies = [accuracy()]
    # Without held-out data, until nothing forgotten is answered right.
    while accuracies[-1] > 0 and len(accuracies) <= ROUNDS:
        step(len(accuracies) - 1)
        accuracies.append(accuracy())
    return _Run(layers, accuracies, shares)


@functools.cache
def published():
    return jax.jit(hf.pgu(world()[1], hf.PGUConfig.published()).unlearn)


@pytest.mark.parametrize("by_class", [False, True])
def test_the_published_preset_is_the_published_method(by_class):
    data, _, variables = world()
    if by_class:
        request = hf.forget_classes(data, [1], capacity=8)
    else:
        request = hf.forget_rows(data, range(8))
    rows = np.asarray(request.rows)
    # Then a minibatch holds every row equally often, in whichever order.
    assert hf.PGUConfig.published().batch_size % rows.size == 0
    after, info = published()(KEY, begun(world), request)
    expected = _transcription(variables["params"], data, rows)
    # Rounding does not decide how many directions are protected.
    for share in expected.shares:
        assert np.abs(share - GAMMA).min() > 1e-3
    rounds = len(expected.accuracies) - 1
    assert info.rounds == rounds and info.failed_at == -1
    # The class is out before the last round, the rows are not: both ends are met.
    assert (rounds < ROUNDS) == by_class
    padding = [expected.accuracies[-1]] * (ROUNDS - rounds)
    np.testing.assert_array_equal(info.forget_accuracy, expected.accuracies + padding)
    for number, (kernel, bias) in enumerate(expected.layers):
        found = after.variables["params"][f"Dense_{number}"]
        moved = np.abs(kernel - variables["params"][f"Dense_{number}"]["kernel"]).max()
        # Steps of float32: a hundred of them.
        np.testing.assert_allclose(found["kernel"], kernel, atol=1e-5)
        assert moved > 1e-2
        same(found["bias"], bias.astype(np.float32))
