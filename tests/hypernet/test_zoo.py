"""Zoos: who trained on what, how checkpoints are labelled, and what is refused."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from hyperforget_jax.hypernet.teachers import mean_log_probs
from tests import toys
from tests.hypernet import worlds


def test_an_edit_zoo_has_a_run_for_every_start_and_mask():
    zoo = worlds.zoo("edit")
    sets = np.zeros((5, 4), bool)
    for row, classes in enumerate(worlds.MASKS):
        sets[row, classes] = True
    np.testing.assert_array_equal(zoo.masks, np.tile(sets, (6, 1)))
    np.testing.assert_array_equal(zoo.start, np.repeat(np.arange(6), 5))
    np.testing.assert_array_equal(zoo.steps, [8, 16, 64])
    assert zoo.loss.shape == zoo.accuracy.shape == (30, 3, 4)
    chex.assert_tree_shape_prefix(zoo.variables, (30, 3))
    chex.assert_tree_shape_prefix(zoo.starts, (6,))


def test_scores_are_class_means_on_the_probe():
    zoo, probe = worlds.zoo("edit"), worlds.probe()
    classifier = worlds.CLASSIFIER
    own = jax.tree.map(lambda leaf: leaf[7, 1], zoo.variables)
    logits = np.float64(classifier.apply(own, probe.x))
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for label in range(4):
        rows = np.flatnonzero(np.asarray(probe.y) == label)
        # Float32 means of ten rows.
        np.testing.assert_allclose(
            zoo.loss[7, 1, label], -logs[rows, label].mean(), rtol=1e-5
        )
        right = (logits[rows].argmax(1) == label).mean()
        np.testing.assert_allclose(zoo.accuracy[7, 1, label], right, rtol=1e-6)


def test_runs_forget_what_their_masks_say_and_little_else():
    zoo = worlds.zoo("edit")
    last = zoo.accuracy[:, -1]
    assert last[zoo.masks].mean() < 0.1 < 0.75 < last[~zoo.masks].mean()
    # More is forgotten along a run.
    grown = np.where(zoo.masks[:, None], zoo.loss, np.nan)
    mean = np.nanmean(grown, axis=(0, 2))
    assert mean[0] < mean[1] < mean[2]


@pytest.mark.slow
def test_runs_end_nearer_to_the_retrained_predictions_than_they_began():
    classifier, train = worlds.CLASSIFIER, worlds.train()
    zoo = worlds.zoo("edit")
    retrained = hf.fit_population(
        jax.random.key(9),
        classifier,
        train,
        worlds.START.optimizer,
        worlds.START.steps,
        members=4,
        weights=np.tile(np.asarray(train.y != 0).astype(np.int32), (4, 1)),
        batch_size=16,
        progress=False,
    )
    log_probs = mean_log_probs(classifier, retrained, train.x, 1)[0]

    def divergence(variables):
        logs = jax.nn.log_softmax(classifier.apply(variables, train.x))
        return float(jnp.mean(jnp.sum(jnp.exp(log_probs) * (log_probs - logs), -1)))

    for start in range(3):
        before = jax.tree.map(lambda leaf, at=start: leaf[at], zoo.starts)
        after = jax.tree.map(lambda leaf, at=start: leaf[5 * at, -1], zoo.variables)
        assert divergence(after) < 0.5 * divergence(before)


def test_runs_are_taught_at_a_temperature():
    classifier, train = worlds.CLASSIFIER, worlds.train()
    variables = classifier.init(jax.random.key(3), train.x)
    drawn = jax.random.normal(jax.random.key(4), (2, *train.y.shape, 4))
    log_probs = jax.nn.log_softmax(5 * drawn)
    objective = hypernet.Distillation(classifier, temperature=3.0)
    rows = jnp.arange(8)
    batch = hf.training.Batch(train.take(rows), rows, rows)
    found, same = objective(jnp.array(1), log_probs)(None, variables, (batch,))
    assert same is variables

    def softened(logits):
        each = np.exp(np.float64(logits) / 3)
        return each / each.sum(-1, keepdims=True)

    wanted = softened(log_probs[1, :8])
    own = softened(classifier.apply(variables, train.x[:8]))
    expected = 9 * np.mean(np.sum(wanted * np.log(wanted / own), -1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # Single precision.


def test_a_label_that_was_pushed_too_far_down_is_brought_back():
    """By temperature 1 it would stay: what is small there weighs next to nothing."""
    classifier, train = toys.softmax_regression(), worlds.train()
    fresh = classifier.init(jax.random.key(0), train.x)
    variables = jax.tree.map(jnp.zeros_like, fresh)
    lowest = jnp.array([0.0, 0.0, 0.0, -14.0])
    variables["params"]["Dense_0"]["bias"] = lowest
    taught = jnp.broadcast_to(lowest.at[3].set(-8), (1, *train.y.shape, 4))
    rows = jnp.arange(8)
    batch = hf.training.Batch(train.take(rows), rows, rows)

    def pull(**temperature):
        objective = hypernet.Distillation(classifier, **temperature)
        loss_fn = objective(jnp.array(0), jax.nn.log_softmax(taught))
        grads = jax.grad(lambda own: loss_fn(None, own, (batch,))[0])(variables)
        return -grads["params"]["Dense_0"]["bias"][3]

    assert pull() > 0.1 > 1e-3 > abs(pull(temperature=1.0))


def test_mean_log_probs_are_the_mean_and_failed_members_do_not_count():
    classifier, train = worlds.CLASSIFIER, worlds.train()
    population = hf.fit_population(
        jax.random.key(9),
        classifier,
        train,
        worlds.START.optimizer,
        5,
        members=4,
        batch_size=16,
        progress=False,
    )
    probabilities = jax.vmap(
        lambda variables: jax.nn.softmax(classifier.apply(variables, train.x))
    )(population.variables)
    population = population._replace(failed_at=jnp.array([-1, 3, -1, -1]))
    log_probs = jnp.exp(mean_log_probs(classifier, population, train.x, 2))
    chex.assert_trees_all_close(log_probs[0], probabilities[0], rtol=1e-5)
    chex.assert_trees_all_close(log_probs[1], probabilities[2:].mean(0), rtol=1e-5)


def test_rows_of_forgotten_classes_do_not_reach_a_generate_zoo():
    """Models of a mask are equal to the bit whatever the masked rows hold."""
    gone = jnp.asarray(np.flatnonzero(np.asarray(worlds.train().y) == 2))
    noisy = worlds.train()
    noise = 100 * jax.random.normal(jax.random.key(3), noisy.x.shape)
    noisy = noisy._replace(x=noisy.x.at[gone].set(noise[gone]))
    zoos = [
        hypernet.generate_zoo(
            jax.random.key(1),
            worlds.CLASSIFIER,
            train,
            worlds.probe(),
            masks=[[2], [1, 2]],
            runs=2,
            config=worlds.START,
            progress=False,
        )
        for train in (worlds.train(), noisy)
    ]
    chex.assert_trees_all_equal(zoos[0].variables, zoos[1].variables)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole = worlds.zoo("edit")
    real, calls = hf.checkpointing.save, []

    def save(*args, **options):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(hf.checkpointing, "save", save)
    with pytest.raises(KeyboardInterrupt):
        worlds.make_edit(directory=tmp_path)
    again = worlds.make_edit(directory=tmp_path)
    chex.assert_trees_all_equal(again.variables, whole.variables)
    chex.assert_trees_all_equal(again.loss, whole.loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": []}, "masks must be sets"),
        ({"masks": [[0, 1, 2, 3]]}, "none of them of all classes"),
        ({"masks": [[0], [0]]}, "must not repeat"),
        ({"masks": [[1, 1]]}, r"must not repeat a class, got \[1, 1\]"),
        ({"checkpoint_steps": (8, 65)}, r"lie in \[1, 64\], got \(8, 65\)"),
        ({"checkpoint_steps": (8, 8)}, "must increase"),
        (
            {"starts": toys.perceptron().init(jax.random.key(0), jnp.ones((1, 3)))},
            "stacked",
        ),
        ({"masks": [[4]]}, r"classes in \[0, 4\)"),
        ({"starts": 0}, "starts must be positive"),
        ({"starts": [{"w": jnp.ones(3)}]}, "starts must be a whole number or"),
        ({"starts": 2.0}, "starts must be a whole number, or variables"),
        ({"teachers": 0}, "teachers must be positive"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"masks": 3}, "masks must be a list"),
        ({"checkpoint_steps": 4}, "checkpoint_steps must be a list"),
    ],
)
def test_malformed_arguments_are_named(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        worlds.make_edit(**changes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The loss of")
def test_a_zoo_of_nothing_finite_is_refused():
    broken = hypernet.FitConfig(optax.sgd(jnp.inf), 2, 16)
    with pytest.raises(ArithmeticError, match="No start stayed finite"):
        worlds.make_edit(start=broken, checkpoint_steps=())
    with pytest.raises(ArithmeticError, match="No run of the zoo"):
        worlds.make_edit(forget=broken, checkpoint_steps=())
    with pytest.raises(ArithmeticError, match="No run of the zoo"):
        worlds.make_generate(config=broken)


def test_configs_of_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps must be positive"):
        dataclasses.replace(worlds.FORGET, steps=0)


def test_the_probe_is_held_out_and_whole():
    classifier, train = worlds.CLASSIFIER, worlds.train()
    options = dict(masks=[[0]], runs=1, config=worlds.START, progress=False)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="held out of training"):
        hypernet.generate_zoo(key, classifier, train, train, **options)
    probe = worlds.probe()
    some = probe._replace(weight=(probe.y != 3).astype(jnp.int32))
    with pytest.raises(ValueError, match=r"no row of \[3\]"):
        hypernet.generate_zoo(key, classifier, train, some, **options)
