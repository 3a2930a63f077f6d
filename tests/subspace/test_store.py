"""Gram stores come back for the model and data they are of, and for no other."""

import chex
import jax
import jax.numpy as jnp
import pytest

from hyperforget_jax import checkpointing, subspace
from hyperforget_jax.subspace.store import include, margins_of
from tests import toys

HOW = {"normalisation": "none", "augment": "crop_and_flip", "seed": 3}


@pytest.fixture
def saved(tmp_path):
    classifier, data = toys.perceptron(), toys.points()
    variables = classifier.init(jax.random.key(0), data.x)
    store = subspace.Store(
        subspace.measure(classifier, variables, data),
        include(data)[0],
        margins_of(classifier.apply(variables, data.x), data.y, data.weight),
    )
    path = tmp_path / "store"
    subspace.save_store(path, store, classifier, variables, preprocessing=HOW)
    return path, store, classifier, variables


def test_round_trip_to_the_bit(saved):
    path, store, classifier, variables = saved
    loaded = subspace.load_store(path, classifier, variables, preprocessing=HOW)
    chex.assert_trees_all_equal(loaded, store)
    assert type(loaded) is subspace.Store and type(loaded.grams) is subspace.Grams


def test_wrong_model_variables_and_preprocessing_are_refused(saved):
    path, _, classifier, variables = saved
    load = subspace.load_store
    with pytest.raises(ValueError, match="belongs to the model"):
        load(path, toys.softmax_regression(), variables, preprocessing=HOW)
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    with pytest.raises(ValueError, match="model with other variables"):
        load(path, classifier, other, preprocessing=HOW)
    with pytest.raises(ValueError, match="'seed': 3.*not by.*'seed': 4"):
        load(path, classifier, variables, preprocessing=HOW | {"seed": 4})


def test_what_is_no_store_is_refused(tmp_path):
    classifier = toys.perceptron()
    checkpointing.save(
        tmp_path / "other", {"a": jnp.ones(2)}, kind="variables", config={"seed": 1}
    )
    with pytest.raises(ValueError, match="holds 'variables', not 'gram-store'"):
        subspace.load_store(tmp_path / "other", classifier, {}, preprocessing=HOW)
    with pytest.raises(FileNotFoundError):
        subspace.load_store(tmp_path / "none", classifier, {}, preprocessing=HOW)


def test_an_older_store_is_kept_unless_asked(saved):
    path, store, classifier, variables = saved
    with pytest.raises(FileExistsError):
        subspace.save_store(path, store, classifier, variables, preprocessing=HOW)
    less = store._replace(grams=jax.tree.map(lambda leaf: leaf / 2, store.grams))
    subspace.save_store(
        path, less, classifier, variables, preprocessing=HOW, overwrite=True
    )
    loaded = subspace.load_store(path, classifier, variables, preprocessing=HOW)
    chex.assert_trees_all_equal(loaded, less)
