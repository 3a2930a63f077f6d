"""Influence: the step by a matrix that is formed, and where it leads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import hyperforget_jax as hf
from tests import toys
from tests.rivals import numpy_net


def answer(classifier, variables, data, rows, **options):
    unlearner = hf.rivals.influence(classifier, **options)
    state = unlearner.init(jax.random.key(1), variables, data)
    request = hf.forget_rows(data, rows, num_classes=4)
    return jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)[0].variables


def doubles(tree):
    return jax.tree.map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a,
        tree,
    )


def test_the_step_is_that_of_the_matrix_by_hand():
    with jax.enable_x64(True):
        data, classifier = toys.points(), toys.perceptron()
        data = data._replace(weight=1 + jnp.arange(40, dtype=jnp.int32) % 2)
        variables, data = doubles(
            (jax.jit(classifier.init)(jax.random.key(0), data.x), data)
        )
        # As many iterations as there are parameters, and some for rounding.
        after = answer(
            classifier,
            variables,
            data,
            np.arange(8),
            scale=1.5,
            damping=0.1,
            iterations=80,
            batch_size=16,
        )
    weights = numpy_net.weights_of(variables)
    x, y, n = (np.asarray(leaf) for leaf in (data.x, data.y, data.weight))
    out = numpy_net.residuals(weights, x, y)
    gradient = numpy_net.flat(numpy_net.gradients(weights, x, out)[0])
    p = numpy_net.softmax(numpy_net.logits(weights, x))
    jacobians = np.stack(
        [
            numpy_net.flat(numpy_net.gradients(weights, x, np.tile(unit, (40, 1)))[0])
            for unit in np.eye(4)
        ],
        axis=1,
    )
    curvature = np.einsum("nc,ce->nce", p, np.eye(4)) - p[:, :, None] * p[:, None, :]
    retained = np.where(np.arange(40) < 8, 0, n)
    matrix = np.einsum(
        "n,ncp,nce,neq->pq", retained, jacobians, curvature, jacobians
    ) / sum(retained)
    target = n @ gradient / n.sum() - retained @ gradient / retained.sum()
    step = 1.5 * np.linalg.solve(matrix + 0.1 * np.eye(len(matrix)), target)
    moves = numpy_net.unflat(step, weights)
    expected = [w + by for w, by in zip(weights, moves, strict=True)]
    # Conjugate gradients stop at 1e-5 of the right-hand side, which is about one; the
    # smallest eigenvalue is a tenth. Gradients of single terms are float32.
    numpy_net.assert_params(after["params"], expected, atol=1e-4)


@pytest.mark.slow
def test_leads_near_to_the_minimum_on_the_retained_data():
    """Of softmax regression on labels that nobody can separate."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.integers(0, 4, 60)

    def solve(rows):
        wide = np.column_stack([x, np.ones(60)])[rows]

        def loss(flat):
            z = wide @ flat.reshape(4, 4)
            p = numpy_net.softmax(z)
            value = -np.log(p[np.arange(len(wide)), y[rows]]).mean()
            return value, (wide.T @ (p - np.eye(4)[y[rows]]) / len(wide)).ravel()

        found = optimize.minimize(loss, np.zeros(16), jac=True, tol=1e-12)
        return found.x.reshape(4, 4)

    whole, wanted = solve(np.arange(60)), solve(np.arange(3, 60))
    with jax.enable_x64(True):
        data = hf.Examples(
            jnp.asarray(x),
            jnp.asarray(y, jnp.int32),
            jnp.ones(60, jnp.int32),
            jnp.arange(60, dtype=jnp.int32),
        )
        params = {
            "Dense_0": {"kernel": jnp.asarray(whole[:3]), "bias": jnp.asarray(whole[3])}
        }
        after = answer(
            toys.softmax_regression(),
            {"params": params},
            data,
            np.arange(3),
            damping=1e-6,
            iterations=40,
        )
    layer = after["params"]["Dense_0"]
    found = np.vstack([layer["kernel"], layer["bias"]])
    # To first order in a share of 1 / 20: what is left is of its square.
    left, before = np.linalg.norm(found - wanted), np.linalg.norm(whole - wanted)
    assert left < 0.2 * before


@pytest.mark.parametrize("name", ["scale", "damping", "iterations", "batch_size"])
def test_hyper_parameters_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.influence(toys.perceptron(), **{name: 0})
