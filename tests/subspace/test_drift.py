"""The certificate is what it says, beside the data themselves."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hyperforget_jax as hf
from hyperforget_jax import subspace
from hyperforget_jax.subspace.projection import drift, relative_drift
from tests import toys


class _Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        x = nn.relu(nn.Conv(4, (3, 3), feature_group_count=2)(x))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class Drift(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_brute_force(self):
        classifier = hf.from_linen(_Small())
        x = jax.random.normal(jax.random.key(0), (9, 8, 6, 2))
        weight = jnp.array([1, 2, 0, 1, 1, 3, 1, 0, 1])
        data = hf.Examples(x, jnp.zeros(9, jnp.int32), weight, jnp.arange(9))
        variables = classifier.init(jax.random.key(1), x)
        change = jax.tree.map(
            lambda leaf: 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
            variables["params"],
        )
        grams = subspace.measure(classifier, variables, data)
        found = self.variant(drift)(grams, change)
        # Each layer on its own real inputs, with the change in the place of weights.
        layers = {
            "Conv_0": nn.Conv(4, (3, 3), strides=2),
            "Conv_1": nn.Conv(4, (3, 3), feature_group_count=2),
            "Dense_0": nn.Dense(3),
        }
        taps = classifier.taps(variables, x)
        for path, layer in layers.items():
            out = layer.apply({"params": change[path]}, taps[path][0].input)
            squares = np.square(np.asarray(out, np.float64)).reshape(9, -1).sum(1)
            expected = (squares * np.asarray(weight)).sum() / np.asarray(weight).sum()
            np.testing.assert_allclose(found[path], expected, rtol=1e-5)


def test_relative_drift_of_a_multiple_is_the_multiple():
    classifier, data = toys.perceptron(), toys.points()
    variables = classifier.init(jax.random.key(0), data.x)
    grams = subspace.measure(classifier, variables, data)
    params = variables["params"]
    change = jax.tree.map(lambda leaf: 0.25 * leaf, params)
    for value in relative_drift(grams, params, change).values():
        np.testing.assert_allclose(value, 0.25, rtol=1e-4)


def test_certificate_is_bounded_by_the_largest_unprotected_eigenvalue():
    classifier, data = toys.perceptron(), toys.points()
    variables = classifier.init(jax.random.key(0), data.x)
    grams = subspace.measure(classifier, variables, data)
    spectrum = subspace.decompose(grams)
    kept = subspace.keep(spectrum, "energy", 0.9)
    projector = subspace.null_space(spectrum, kept)
    ones = jax.tree.map(jnp.ones_like, variables["params"])
    change, _ = subspace.project_gradients(projector).update(ones, optax.EmptyState())
    for path, value in drift(grams, change).items():
        free = jnp.where(kept[path], 0, spectrum.values[path]).max()
        size = sum(jnp.sum(leaf**2) for leaf in change[path].values())
        assert value * grams.total_weight <= free * size * (1 + 1e-4)
