"""Changes kept from retained data, against least squares over single rows."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import subspace, trees
from tests import toys

CLASSES = toys.NUM_CLASSES
DATA = toys.points()._replace(weight=jnp.arange(40) % 3)
CLASSIFIER = toys.perceptron()
VARIABLES = CLASSIFIER.init(jax.random.key(0), DATA.x)
GONE = jnp.arange(CLASSES) == 1
STAY = jnp.arange(CLASSES) > 1  # Class 0 went before.
HEAD = "Dense_1"


@functools.cache
def grams():
    return subspace.measure_by_class(CLASSIFIER, VARIABLES, DATA, CLASSES, batch_size=7)


def changes():
    keys = iter(jax.random.split(jax.random.key(1), 4))
    return jax.tree.map(
        lambda leaf: jax.random.normal(next(keys), leaf.shape), VARIABLES["params"]
    )


def given(path):
    """What a layer is given, with a one at the end, float64."""
    x = np.asarray(DATA.x, np.float64)
    if path == HEAD:
        first = VARIABLES["params"]["Dense_0"]
        x = np.maximum(x @ np.asarray(first["kernel"]) + np.asarray(first["bias"]), 0)
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def matrix(layer):
    return np.concatenate([layer["kernel"], np.asarray(layer["bias"])[None]])


@pytest.mark.parametrize("path", ["Dense_0", HEAD])
def test_gram_matrices_of_every_class_are_sums_over_its_rows(path):
    rows, weight = given(path), np.asarray(DATA.weight)
    for label in range(CLASSES):
        own = np.where(np.asarray(DATA.y) == label, weight, 0)
        # float32 sums of forty products.
        np.testing.assert_allclose(
            grams().values[path][label, 0],
            (rows * own[:, None]).T @ rows,
            rtol=1e-5,
            atol=1e-4,
        )
        assert grams().total_weight[label] == own.sum()


@pytest.mark.parametrize("factor", [0.3, 3.0])
@pytest.mark.parametrize("path", ["Dense_0", HEAD])
def test_the_change_is_the_one_of_least_squares(path, factor):
    before = changes()
    after = subspace.protect(grams(), before, GONE, STAY, factor, HEAD)
    rows, weight, y = given(path), np.asarray(DATA.weight), np.asarray(DATA.y)
    delta = matrix(before[path])
    sides, wanted = [], []
    for classes, share, target in ((GONE, 1.0, delta), (STAY, factor, 0 * delta)):
        own = np.where(np.asarray(classes)[y], weight, 0)
        root = np.sqrt(share * own / own.sum())[:, None] * rows
        sides.append(root)
        wanted.append(root @ target)
    best = np.linalg.lstsq(np.concatenate(sides), np.concatenate(wanted))[0]
    if path == HEAD:
        best = np.where(np.asarray(STAY), best, delta)
    # The ridge, a hundred thousandth of the mean eigenvalue, beside small ones.
    np.testing.assert_allclose(matrix(after[path]), best, atol=0.02)


@chex.variants(with_jit=True, without_jit=True)
class Protect(chex.TestCase):
    def test_nothing_measured_of_the_forgotten_classes_leaves_the_change(self):
        none = jax.tree.map(jnp.zeros_like, grams())
        protect = self.variant(
            lambda own, factor: subspace.protect(none, own, GONE, STAY, factor, HEAD)
        )
        chex.assert_trees_all_equal(protect(changes(), 3.0), changes())

    def test_no_retained_data_and_no_weight_on_them_leave_nearly_all(self):
        nobody = jnp.zeros(CLASSES, bool)
        protect = self.variant(subspace.protect)
        for stay, factor in ((nobody, 3.0), (STAY, 0.0)):
            after = protect(grams(), changes(), GONE, stay, factor)
            seen = given("Dense_0")[np.asarray(DATA.y == 1) & (DATA.weight > 0)]
            move = matrix(after["Dense_0"]) - matrix(changes()["Dense_0"])
            # What forgotten rows see; directions that they lack are free.
            assert np.abs(seen @ move).max() < 0.02


def test_parameters_without_a_gram_matrix_and_other_leaves_stay():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm()(nn.Dense(5)(x))
            return nn.Dense(CLASSES)(x)

    classifier = hf.from_linen(Scaled())
    variables = classifier.init(jax.random.key(0), DATA.x)
    own = subspace.measure_by_class(classifier, variables, DATA, CLASSES)
    ones = jax.tree.map(jnp.ones_like, variables["params"])
    after = subspace.protect(own, ones, GONE, STAY, 1.0, HEAD)
    chex.assert_trees_all_equal(after["LayerNorm_0"], ones["LayerNorm_0"])
    assert (trees.get(after, "Dense_0")["kernel"] != 1).all()


def test_models_under_vmap_are_as_one_by_one():
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), changes())
    found = jax.vmap(lambda own: subspace.protect(grams(), own, GONE, STAY, 1.0, HEAD))(
        both
    )
    alone = subspace.protect(grams(), trees.take(both, 1), GONE, STAY, 1.0, HEAD)
    chex.assert_trees_all_close(trees.take(found, 1), alone, rtol=1e-4, atol=1e-5)


def test_a_grouped_convolution_is_solved_group_by_group():
    class Grouped(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (2, 2), feature_group_count=2)(x)
            return nn.Dense(CLASSES)(x.mean((1, 2)))

    classifier = hf.from_linen(Grouped())
    images = jax.random.normal(jax.random.key(2), (40, 4, 4, 2))
    data = DATA._replace(x=images)
    variables = classifier.init(jax.random.key(0), images)
    own = subspace.measure_by_class(classifier, variables, data, CLASSES)
    ones = jax.tree.map(jnp.ones_like, variables["params"])
    after = subspace.protect(own, ones, GONE, STAY, 1.0)["Conv_0"]
    assert own.values["Conv_0"].shape == (CLASSES, 2, 5, 5)
    counts = [np.asarray(own.total_weight) * np.asarray(each) for each in (GONE, STAY)]
    gram = np.asarray(own.values["Conv_0"], np.float64)
    for group, outputs in enumerate((slice(2), slice(2, 4))):
        gone, stay = (
            gram[np.asarray(each), group].sum(0) / count.sum()
            for each, count in zip((GONE, STAY), counts, strict=True)
        )
        best = np.linalg.solve(gone + stay, gone @ np.ones((5, 2)))
        found = after["kernel"][..., outputs].reshape(4, 2), after["bias"][outputs]
        # The ridge.
        np.testing.assert_allclose(found[0], best[:4], atol=0.01)
        np.testing.assert_allclose(found[1], best[4], atol=0.01)


def test_more_inputs_than_rows_and_inputs_that_are_nothing_stay_finite():
    wide = 1_300  # Of sixty rows; a third of the inputs are always zero.
    there = jnp.arange(wide)[None] % 3 > 0
    x = jnp.where(there, jax.random.uniform(jax.random.key(4), (60, wide)), 0)
    sums = [x[:30].T @ x[:30], x[30:].T @ x[30:]]
    own = subspace.Grams({"Dense_0": jnp.stack(sums)[:, None]}, jnp.full(2, 30.0))
    change = {"Dense_0": {"kernel": jax.random.normal(jax.random.key(5), (wide, 3))}}
    first = jnp.arange(2) == 0
    after = subspace.protect(own, change, first, ~first, 3.0)
    chex.assert_tree_all_finite(after)
    # Seen by rows that it was fitted to: nearly all by forgotten ones, by others less.
    moved, before = (
        np.square(x @ each["Dense_0"]["kernel"]).reshape(2, 30, 3).mean((1, 2))
        for each in (after, change)
    )
    assert moved[0] > 0.5 * before[0] and moved[1] < 0.2 * before[1]
    nothing = jax.tree.map(jnp.zeros_like, own.values)
    dead = subspace.protect(own._replace(values=nothing), change, first, ~first, 3.0)
    assert not dead["Dense_0"]["kernel"].any()
