"""Training a hypernetwork, and what it is kept as."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import toys
from tests.hypernet import worlds


@pytest.mark.parametrize("mode", ["anchored", "free"])
def test_the_loss_falls(mode):
    network, trace = worlds.fitted(mode)
    assert trace.shape == (30,) and np.isfinite(trace).all()
    assert trace[-5:].mean() < 0.8 * trace[:5].mean()
    chex.assert_tree_all_finite(network.learnt)


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": "v"},
        {"prediction": "eps", "schedule": "linear"},
        {"mixer": "mean", "prompt": "dihyfo_1"},
        {"tokens": "chunks", "chunk_size": 7},
        {"free_prompts": 0.3},
    ],
)
def test_every_choice_trains(changes):
    recipe = hypernet.Recipe(width=16, heads=2, depth=1, **changes)
    network, trace = worlds.fit(recipe=recipe)
    assert trace[-5:].mean() < trace[:5].mean()
    chex.assert_tree_all_finite(network.learnt)


def test_a_fresh_anchored_network_changes_nothing():
    recipe = hypernet.Recipe(width=16, heads=2)
    network = hypernet.build(toys.perceptron(), worlds.train().x, recipe)
    learnt = worlds.fitted("anchored")[0].learnt
    learnt = learnt._replace(weights=network.init(jax.random.key(0)))
    anchor = jax.tree.map(lambda leaf: leaf[0], worlds.zoo("anchored").starts)["params"]
    made = hypernet.sample_params(
        jax.random.key(1),
        network,
        learnt,
        anchor,
        jnp.ones(4),
        jnp.arange(4) == 1,
        hypernet.Sampler(steps=3),
    )
    chex.assert_trees_all_equal(made, anchor)


def test_permuting_the_units_of_a_model_permutes_the_prediction():
    network, _ = worlds.fitted("anchored")
    permute = network.tokenizer.permute
    order = (jnp.array([3, 0, 4, 1, 2]),)
    anchor = jax.tree.map(lambda leaf: leaf[0], worlds.zoo("anchored").starts)["params"]
    noised = jax.tree.map(jnp.ones_like, anchor)
    prompt = hypernet.features("dihyfo_2", jnp.ones(4), jnp.arange(4) == 1)
    t = jnp.array(0.7)
    own = network.denoise(network.learnt, noised, anchor, t, prompt)
    other = network.denoise(
        network.learnt, permute(noised, order), permute(anchor, order), t, prompt
    )
    # Sums over units in another order.
    chex.assert_trees_all_close(other, permute(own, order), atol=1e-5)


def test_without_warmup_the_average_keeps_what_it_began_with():
    course = worlds.COURSE._replace(steps=10)
    held, _ = worlds.fit(course=course._replace(ema_warmup=False))
    moved, _ = worlds.fit(course=course)

    def size(network):  # The decoder began at zero.
        weights = network.learnt.weights["decode_0_Dense_0"]["kernel"]
        return float(jnp.abs(weights).mean())

    assert size(held) < 0.1 * size(moved)


def test_a_training_that_was_killed_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole, trace = worlds.fit(segment_steps=10)
    real, calls = hf.checkpointing.save, []

    def save(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(hf.checkpointing, "save", save)
    with pytest.raises(KeyboardInterrupt):
        worlds.fit(segment_steps=10, directory=tmp_path / "training")
    again, other = worlds.fit(segment_steps=10, directory=tmp_path / "training")
    chex.assert_trees_all_equal(again.learnt, whole.learnt)
    np.testing.assert_array_equal(other, trace)
    with pytest.raises(ValueError, match="begun with other arguments"):
        worlds.fit(segment_steps=15, directory=tmp_path / "training")


def test_zoos_by_turns_of_equal_content_are_one_zoo():
    whole, trace = worlds.fit(segment_steps=10)
    zoo, reads = worlds.zoo("anchored"), []

    class Turns:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if not 0 <= index < 2:
                raise IndexError(index)
            reads.append(index)
            return zoo

    classifier = toys.perceptron()
    network, other = hypernet.fit_hypernetwork(
        jax.random.key(2),
        hypernet.build(classifier, worlds.train().x, whole.recipe),
        classifier,
        Turns(),
        worlds.train(),
        worlds.COURSE,
        segment_steps=10,
        progress=False,
    )
    chex.assert_trees_all_equal(network.learnt, whole.learnt)
    np.testing.assert_array_equal(other, trace)
    assert reads[1:] == [0, 1, 0]


def test_eight_devices_equal_one():
    mesh = hf.sharding.make_mesh(examples=8)
    course = worlds.COURSE._replace(steps=5)
    alone, trace = worlds.fit(course=course)
    sharded, other = worlds.fit(course=course, mesh=mesh)
    # Gradients are summed in another order, and Adam divides by small numbers.
    np.testing.assert_allclose(other, trace, rtol=1e-3)
    chex.assert_trees_all_close(sharded.learnt.weights, alone.learnt.weights, atol=1e-3)


def test_a_hypernetwork_round_trips_through_its_checkpoint(tmp_path):
    network, _ = worlds.fitted("anchored")
    hypernet.save_hypernetwork(tmp_path / "network", network)
    loaded = hypernet.load_hypernetwork(tmp_path / "network", toys.perceptron())
    assert loaded.recipe == network.recipe
    chex.assert_trees_all_equal(loaded.learnt, network.learnt)
    with pytest.raises(ValueError, match="belongs to the model"):
        other = hf.from_linen(hf.models.MLP((6,), 4))
        hypernet.load_hypernetwork(tmp_path / "network", other)
    hf.checkpointing.save(tmp_path / "zoo", worlds.zoo("free").loss, kind="zoo")
    with pytest.raises(ValueError, match="holds 'zoo', not 'hypernetwork'"):
        hypernet.load_hypernetwork(tmp_path / "zoo", toys.perceptron())
    with pytest.raises(ValueError, match="learnt nothing"):
        hypernet.save_hypernetwork(tmp_path / "x", network._replace(learnt=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "both"}, "mode must be one of"),
        ({"prediction": "x1"}, "prediction must be one of"),
        ({"width": 10, "heads": 4}, "width must divide by heads"),
        ({"depth": 0}, "depth must be a positive integer"),
        ({"free_prompts": 1.0}, r"free_prompts must lie in \[0, 1\)"),
    ],
)
def test_malformed_recipes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(hypernet.Recipe(), **changes)


def test_the_wrong_zoo_or_classifier_is_named():
    classifier = toys.perceptron()
    free = hypernet.build(classifier, worlds.train().x, hypernet.Recipe(mode="free"))
    arguments = (worlds.zoo("anchored"), worlds.train(), worlds.COURSE)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="free mode learns from a free zoo"):
        hypernet.fit_hypernetwork(key, free, classifier, *arguments)
    with pytest.raises(ValueError, match="hypernetwork is for the classifier"):
        hypernet.fit_hypernetwork(key, free, toys.softmax_regression(), *arguments)
    with pytest.raises(ValueError, match="samples params alone"):
        hypernet.build(toys.normalised(), worlds.train().x, free.recipe)
