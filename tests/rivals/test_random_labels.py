"""Random labels: which labels, and one step by hand."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.random_labels import wrong_labels
from tests import toys


def test_labels_are_wrong_and_all_others_are_as_likely():
    y = jnp.arange(4000, dtype=jnp.int32) % 4
    found = np.asarray(wrong_labels(jax.random.key(0), y, 4))
    counts = np.zeros((4, 4))
    np.add.at(counts, (np.asarray(y), found), 1)
    assert not counts.diagonal().any()
    # A thousand draws of a third have a standard deviation of 15.
    assert np.abs(counts[~np.eye(4, dtype=bool)] - 1000 / 3).max() < 60


def test_one_step_is_the_gradient_by_hand():
    data, classifier = toys.points(), toys.softmax_regression()
    variables = classifier.init(jax.random.key(0), data.x)
    request = hf.forget_rows(data, np.arange(8), num_classes=4)
    unlearner = hf.rivals.random_labels(
        classifier, optimizer=optax.sgd(0.1), steps=1, batch_size=64
    )
    state = unlearner.init(jax.random.key(1), variables, data)
    after, _ = unlearner.unlearn(jax.random.key(2), state, request)
    # Both halves divide a minibatch of 64, which holds every row as often as another.
    key_labels, _ = jax.random.split(jax.random.key(2))
    wrong = np.asarray(wrong_labels(key_labels, request.forget.y, 4))
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y)
    (kernel, bias) = (
        np.asarray(variables["params"]["Dense_0"][name], np.float64)
        for name in ("kernel", "bias")
    )
    gradient = np.zeros_like(kernel)
    for rows, labels in ((np.arange(8, 40), y[8:]), (np.arange(8), wrong[:8])):
        logits = x[rows] @ kernel + bias
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        gradient += x[rows].T @ (shares - np.eye(4)[labels]) / len(rows) / 2
    np.testing.assert_allclose(
        after.variables["params"]["Dense_0"]["kernel"],
        kernel - 0.1 * gradient,
        atol=2e-5,
    )


@pytest.mark.parametrize("name", ["random_labels", "salun"])
def test_defaults_warn_for_single_rows_and_not_for_classes(name):
    data, classifier = toys.points(), toys.softmax_regression()
    variables = classifier.init(jax.random.key(0), data.x)
    unlearner = getattr(hf.rivals, name)(classifier)
    state = unlearner.init(jax.random.key(1), variables, data)

    @jax.jit
    def unlearn(request):
        return unlearner.unlearn(jax.random.key(2), state, request)

    rows = hf.forget_rows(data, [0], num_classes=4)
    with pytest.warns(UserWarning, match=f"hf.rivals.{name}: the labels of single"):
        unlearn(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        unlearn(hf.forget_classes(data, [1], num_classes=4))
