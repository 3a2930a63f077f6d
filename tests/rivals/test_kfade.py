"""K-FADE: the step against Kronecker products written out, and its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.kfade import curvature
from tests import toys
from tests.rivals.by_numpy import (
    CLASSIFIER,
    DATA,
    VARIABLES,
    X,
    Y,
    assert_weights,
    backward,
    forward,
    softmax,
    unlearned,
    weights,
)

REQUEST = hf.forget_classes(DATA, [1])


def test_one_step_is_a_linear_system_of_each_layer():
    w = weights(VARIABLES)
    hidden, logits = forward(w, X)
    p = softmax(logits)
    inside = p[:, :, None] * np.eye(4) - p[:, :, None] * p[:, None, :]
    through = w[2][None] * (hidden > 0)[:, :, None]
    slope = (p - np.eye(4)[Y])[Y == 1]
    ascent = backward(w, X[Y == 1], slope)
    for layer, inputs, outputs in (
        (0, X, through @ inside @ np.swapaxes(through, 1, 2)),
        (2, hidden, inside),
    ):
        given = np.hstack([inputs, np.ones((40, 1))])[Y != 1]
        whole = np.kron(given.T @ given, outputs[Y != 1].sum(axis=0)) / 30
        whole += 0.5 * np.trace(whole) / len(whole) * np.eye(len(whole))
        stacked = np.vstack([ascent[layer], ascent[layer + 1]])
        step = np.linalg.solve(whole, stacked.reshape(-1)).reshape(stacked.shape)
        w[layer], w[layer + 1] = w[layer] + step[:-1], w[layer + 1] + step[-1]
    after = unlearned(hf.rivals.kfade(CLASSIFIER, damping=0.5), REQUEST)
    # Steps are of size ten, and the system's condition is about a hundred.
    assert_weights(after.variables, w, atol=1e-3)


@pytest.mark.slow
def test_much_damping_makes_it_plain_ascent():
    w = weights(VARIABLES)
    slope = softmax(forward(w, X)[1]) - np.eye(4)[Y]
    ascent = backward(w, X[Y == 1], slope[Y == 1])
    after = unlearned(
        hf.rivals.kfade(CLASSIFIER, damping=1e4, step_size=1e2), REQUEST
    ).variables
    for new, old, along in zip(weights(after), w, ascent, strict=True):
        step = (new - old).ravel()
        cosine = step @ along.ravel() / np.linalg.norm(step) / np.linalg.norm(along)
        assert cosine > 0.999


@pytest.mark.slow
def test_factors_of_a_convolution_are_sums_over_places():
    classifier = hf.from_linen(
        toys.ConvNet(), train={"train": True}, eval={"train": False}
    )
    x = jax.random.normal(jax.random.key(3), (8, 4, 4, 1))
    data = hf.data.examples(x, np.arange(8) % 4)
    variables = classifier.init(jax.random.key(0), x)
    found = curvature(classifier, variables, data, 3)
    assert found.places == {"Conv_0": 128, "Conv_1": 32, "Dense_0": 8}

    def logits(shift):
        shifts = {"Conv_1": (shift,)}
        return classifier.tapped(variables, x, shifts)[0]

    # [examples, classes, height, width, channels]: rows are apart in evaluation mode.
    slopes = jax.jacobian(logits)(jnp.zeros((8, 2, 2, 3)))
    slopes = np.einsum("ncnpqk->ncpqk", slopes)
    p = np.asarray(jax.nn.softmax(classifier.apply(variables, x)))
    inside = p[:, :, None] * np.eye(4) - p[:, :, None] * p[:, None, :]
    expected = np.einsum("ncd,ncpqi,ndpqj->ij", inside, slopes, slopes)
    np.testing.assert_allclose(found.outputs.values["Conv_1"][0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["step_size", "damping", "steps", "batch_size"])
def test_bad_settings_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        hf.rivals.kfade(CLASSIFIER, **{name: 0})
