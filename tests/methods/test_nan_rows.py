"""What rows of weight zero hold reaches no method: NaN and infinity neither."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import fisher
from hyperforget_jax.base import Array
from hyperforget_jax.models.head import find_head
from tests import toys
from tests.methods.table import METHODS, SHOWN_BY_OTHERS

KEY = jax.random.key(2)
# Filled on the first, the middle and the last row: padding is clipped to the last one.
GONE = np.array([0, 1, 17, 38, 39])
# A whole minibatch of them too.
NEVER = np.arange(16, 32)


class Convolutional(nn.Module):
    """A convolution with BatchNorm, and the last layer."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = nn.Conv(2, (2, 2), conv_general_dilated=hf.models.conv)(x[..., None])
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(x))
        return nn.Dense(toys.NUM_CLASSES)(x.reshape(x.shape[0], -1))


class LayerNormed(nn.Module):
    """A perceptron with LayerNorm."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.LayerNorm()(nn.Dense(5)(x)))
        return nn.Dense(toys.NUM_CLASSES)(x)


def convolutional():
    modes = {"train": {"train": True}, "eval": {"train": False}}
    return hf.from_linen(Convolutional(), **modes)


MAKERS = {
    "convolutional": convolutional,
    "layernorm": lambda: hf.from_linen(LayerNormed()),
    "perceptron": toys.perceptron,
}


@functools.cache
def world(network):
    """``(classifier, variables, data)``; statistics are not those of a fresh model."""
    classifier, data = MAKERS[network](), toys.points()
    if network == "convolutional":
        data = data._replace(x=data.x.reshape(40, 2, 3))
    variables = dict(jax.jit(classifier.init)(jax.random.key(0), data.x))
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(
            lambda leaf: leaf + 0.3, variables["batch_stats"]
        )
    return classifier, variables, data


def filled(data, rows, value):
    """Rows weightless, and what they hold ``value``; None for what they held."""
    weightless = data.without(jnp.asarray(rows))
    if value is None:
        return weightless
    return weightless._replace(x=data.x.at[jnp.asarray(rows)].set(value))


@functools.cache
def answering(method, network):
    classifier, variables, _ = world(network)
    unlearner = METHODS[method](classifier)

    @jax.jit
    def answer(data, request):
        state = unlearner.init(jax.random.key(1), variables, data)
        return state, unlearner.unlearn(KEY, state, request)

    return answer


def same(method, network, rows, ask):
    answer = answering(method, network)
    data = world(network)[2]
    kept = filled(data, rows, None)
    expected = answer(kept, ask(kept))
    chex.assert_tree_all_finite(expected)
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        other = filled(data, rows, value)
        chex.assert_trees_all_equal(answer(other, ask(other)), expected)


@pytest.mark.parametrize(
    "method, network",
    [
        pytest.param(method, network, marks=marks)
        for method in METHODS
        if method not in ("identity", "dihyfo")
        for network, marks in (("convolutional", []), ("layernorm", [pytest.mark.slow]))
        if network == "convolutional" or method not in SHOWN_BY_OTHERS
    ],
)
def test_what_absent_rows_hold_changes_nothing(method, network):
    if method in ("pgu", "regun", "scrub_rewind") and network == "convolutional":
        network = "perceptron"  # Their probe is of vectors.
    # Their padding is clipped to the last row, which is absent.
    same(
        method,
        network,
        GONE,
        lambda data: hf.forget_rows(data, [3, 4, 9], num_classes=4, capacity=8),
    )


@pytest.mark.parametrize("estimator", fisher.ESTIMATORS)
@pytest.mark.parametrize("network", MAKERS)
@pytest.mark.parametrize("tapped", [True, False])
def test_fishers(network, estimator, tapped):
    """Also where a whole minibatch is absent."""
    classifier, variables, data = world(network)
    if not tapped:
        classifier = classifier._replace(tapped=None)
    measure = jax.jit(
        lambda data: fisher.diagonal(
            classifier, variables, data, batch_size=8, estimator=estimator
        )
    )
    rows = np.concatenate([NEVER, GONE])
    expected = measure(filled(data, rows, None))
    assert expected.total_weight > 0
    for value in (jnp.nan, jnp.inf):
        chex.assert_trees_all_equal(measure(filled(data, rows, value)), expected)


def test_fishers_of_the_head():
    classifier, variables, data = world("layernorm")
    measure = jax.jit(
        lambda data: fisher.diagonal(
            classifier, variables, data, batch_size=8, scope=("Dense_1",)
        )
    )
    rows = np.concatenate([NEVER, GONE])
    expected = measure(filled(data, rows, None))
    chex.assert_trees_all_equal(measure(filled(data, rows, jnp.nan)), expected)


def test_all_absent_is_zero_whatever_they_hold():
    classifier, variables, data = world("layernorm")
    for estimator in fisher.ESTIMATORS:
        found = fisher.diagonal(
            classifier,
            variables,
            filled(data, np.arange(40), jnp.nan),
            estimator=estimator,
        )
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(found))


def test_nan_of_a_row_that_counts_is_not_hidden():
    classifier, variables, data = world("layernorm")
    broken = data._replace(x=data.x.at[5].set(jnp.nan))
    found = fisher.diagonal(classifier, variables, broken)
    # Of the last layer; what a rectifier lets through of NaN is nothing.
    assert jnp.isnan(found.values["Dense_1"]["bias"]).all()


def test_statistics_of_forgotten_classes():
    """Of those that a graph hands on, and of what reaches a model from others."""
    classifier, variables, data = world("layernorm")
    head = find_head(classifier, variables, data.x)
    config = fisher.FIUnConfig(batch_size=8)

    @jax.jit
    def taken(data):
        request = hf.ForgetRequest(
            data,
            jnp.arange(0, 30, dtype=jnp.int32),
            jnp.array([True, True, False, False]),
        )
        return fisher.forget_statistics(classifier, variables, request, config, head)

    rows = np.concatenate([NEVER, GONE])
    expected = taken(filled(data, rows, None))
    chex.assert_trees_all_equal(taken(filled(data, rows, jnp.nan)), expected)

    nothing = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, jnp.nan),
        expected._replace(classes=None, total_weight=None),
    )
    broken = nothing._replace(
        classes=expected.classes, total_weight=expected.total_weight
    )
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), expected, broken)
    reach = jnp.array([[True, False], [False, True]])
    merged = fisher.merge_statistics(both, reach)
    first = jax.tree.map(lambda leaf: leaf[0], merged)
    chex.assert_trees_all_close(first, expected, rtol=1e-6)
    # And the broken root's own descendant is not spared.
    assert jnp.isnan(merged.predictions[1]).any()


def test_class_scores_and_accuracies():
    classifier, variables, data = world("layernorm")

    @jax.jit
    def scores(data):
        logits = classifier.apply(variables, data.x)
        return (
            hf.hypernet.class_scores(classifier, variables, data),
            hf.metrics.class_scores(logits, data.y, data.weight),
            hf.metrics.mean_loss(logits, data.y, data.weight),
        )

    expected = scores(filled(data, GONE, None))
    chex.assert_trees_all_equal(scores(filled(data, GONE, jnp.nan)), expected)


def test_training_does_not_see_them_either():
    classifier, _, data = world("convolutional")

    def fit(data):
        key, optimizer = jax.random.key(5), optax.sgd(0.1)
        return hf.fit(key, classifier, data, optimizer, 3, batch_size=8)

    expected = fit(filled(data, GONE, None))
    chex.assert_trees_all_equal(fit(filled(data, GONE, jnp.nan)), expected)
    with pytest.raises(ValueError, match="data.x is not finite at row 5"):
        fit(data._replace(x=data.x.at[5].set(jnp.nan)))
