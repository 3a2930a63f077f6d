"""Training a hypernetwork, and what it is kept as."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from hyperforget_jax.hypernet import fitting, pairs
from tests import toys
from tests.hypernet import worlds

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["anchored", "free"])
def test_the_loss_falls(mode):
    network, trace = worlds.fit(mode, worlds.COURSE._replace(steps=100))
    assert trace.shape == (100,) and np.isfinite(trace).all()
    # Medians: a few lessons in a step are harder than others.
    assert np.median(trace[-20:]) < 0.7 * np.median(trace[:20])
    chex.assert_tree_all_finite(network.learnt)


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": "v"},
        {"prediction": "eps", "schedule": "linear"},
        {"mixer": "mean", "prompt": "dihyfo_1"},
        {"tokens": "chunks", "chunk_size": 7},
    ],
)
def test_every_choice_trains(changes):
    recipe = hypernet.Recipe(width=16, heads=2, depth=1, **changes)
    network, trace = worlds.fit(recipe=recipe)
    assert trace[-5:].mean() < trace[:5].mean()
    chex.assert_tree_all_finite(network.learnt)


def test_a_fresh_anchored_network_changes_nothing():
    recipe = hypernet.Recipe(width=16, heads=2)
    network = hypernet.build(worlds.CLASSIFIER, worlds.train().x, recipe)
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
    held, _ = worlds.fit(course=worlds.COURSE._replace(ema_warmup=False))
    moved, _ = worlds.fitted("anchored")

    def size(network):  # The decoder began at zero.
        weights = network.learnt.weights["decode_0_Dense_0"]["kernel"]
        return float(jnp.abs(weights).mean())

    assert size(held) < 0.2 * size(moved)


def test_a_training_that_was_killed_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole, trace = worlds.fit()
    real, calls = hf.checkpointing.save, []

    def save(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(hf.checkpointing, "save", save)
    with pytest.raises(KeyboardInterrupt):
        worlds.fit(directory=tmp_path / "training")
    again, other = worlds.fit(directory=tmp_path / "training")
    chex.assert_trees_all_equal(again.learnt, whole.learnt)
    np.testing.assert_array_equal(other, trace)
    with pytest.raises(ValueError, match="begun with segment_steps=10, not 15"):
        worlds.fit(segment_steps=15, directory=tmp_path / "training")


@pytest.mark.parametrize(
    "module, name, changed, field",
    [
        (fitting, "lesson_loss", lambda real: lambda *a: 2 * real(*a), "program"),
        (
            fitting,
            "_optimizer",
            lambda real: lambda course: optax.chain(real(course), optax.trace(0.9)),
            "begin",
        ),
    ],
)
def test_another_program_is_not_gone_on_with(
    tmp_path, monkeypatch, module, name, changed, field
):
    worlds.fit(directory=tmp_path / "training")
    monkeypatch.setattr(module, name, changed(getattr(module, name)))
    jax.clear_caches()  # As in another process.
    with pytest.raises(ValueError, match=f"begun with {field}="):
        worlds.fit(directory=tmp_path / "training")


def test_trainings_of_other_versions_are_refused_by_name(tmp_path):
    folder = tmp_path / "training"
    worlds.fit(directory=folder)
    manifest = hf.checkpointing.read_manifest(folder)
    config = {**manifest.config, "recipe": dict(manifest.config["recipe"])}
    del config["recipe"]["program"]
    state = hf.checkpointing.load(folder)
    hf.checkpointing.save(
        folder, state, kind=manifest.kind, config=config, overwrite=True
    )
    with pytest.raises(ValueError, match=r"another version.*\['program'\]"):
        worlds.fit(directory=folder)


def test_zoos_by_turns_of_equal_content_are_one_zoo():
    whole, trace = worlds.fit()
    zoo, reads = worlds.zoo("anchored"), []

    class Turns:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if not 0 <= index < 2:
                raise IndexError(index)
            reads.append(index)
            return zoo

    classifier = worlds.CLASSIFIER
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
    # Percentiles of twice the same losses are others.
    expected = whole.learnt._replace(profiles=pairs.profiles_of([zoo, zoo]))
    chex.assert_trees_all_equal(network.learnt, expected)
    np.testing.assert_array_equal(other, trace)
    # For scales, for profiles, and then by turns.
    assert reads == [0, *[0, 1], *[0, 1, 0]]


def test_weightless_rows_are_as_good_as_absent():
    gone = jnp.asarray(np.flatnonzero(np.asarray(worlds.train().y) == 2))
    answers = []
    for train in (
        worlds.train(),
        toys.scribble(jax.random.key(4), worlds.train(), gone),
    ):
        classifier = worlds.CLASSIFIER
        network, _ = hypernet.fit_hypernetwork(
            jax.random.key(2),
            hypernet.build(classifier, train.x, worlds.fitted("anchored")[0].recipe),
            classifier,
            worlds.zoo("anchored"),
            train.without(gone),
            worlds.COURSE,
            segment_steps=10,
            progress=False,
        )
        answers.append(network.learnt)
    chex.assert_trees_all_equal(*answers)


def test_every_start_keeps_its_own_normalisation_statistics():
    classifier = toys.normalised()
    zoo = worlds.drawn_zoo(classifier)
    lessons = jax.tree.map(jnp.asarray, pairs.lessons_of(zoo))
    drawn = jax.vmap(lambda key: pairs.draw(key, lessons))(
        jax.random.split(jax.random.key(1), 60)
    )
    means = np.asarray(zoo.starts["batch_stats"]["BatchNorm_0"]["mean"])
    biases = np.asarray(zoo.starts["params"]["Dense_0"]["kernel"])
    for own in range(60):
        begin = np.asarray(drawn.anchor["Dense_0"]["kernel"][own])
        start = np.flatnonzero((biases == begin[None]).all((1, 2)))
        if start.size:
            mean = drawn.others["batch_stats"]["BatchNorm_0"]["mean"][own]
            np.testing.assert_array_equal(mean, means[start[0]])
    network, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        hypernet.build(
            classifier, worlds.train().x, hypernet.Recipe(width=16, heads=2, depth=1)
        ),
        classifier,
        zoo,
        worlds.train(),
        worlds.COURSE._replace(steps=5),
        progress=False,
    )
    assert network.tokenizer.kind == "chunks" and np.isfinite(trace).all()


def test_networks_with_several_hidden_layers_train():
    classifier = hf.from_linen(hf.models.MLP((6, 5), 4))
    zoo = worlds.drawn_zoo(classifier)
    network, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        hypernet.build(
            classifier,
            worlds.train().x,
            hypernet.Recipe(width=16, heads=2, depth=1, dtype="bfloat16"),
        ),
        classifier,
        zoo,
        worlds.train(),
        worlds.COURSE._replace(steps=100),
        progress=False,
    )
    assert network.tokenizer.hidden == (6, 5)
    assert trace[-20:].mean() < 0.8 * trace[:20].mean()


def test_parts_that_are_there_are_not_made_again(tmp_path):
    made = []

    def make(part):
        made.append(part)
        if made == [0, 1]:
            raise KeyboardInterrupt
        return worlds.zoo("free")._replace(start=np.full(20, part, np.int32))

    with pytest.raises(KeyboardInterrupt):
        hypernet.stored_zoo(tmp_path, 3, make)
    parts = hypernet.stored_zoo(tmp_path, 3, make)
    assert made == [0, 1, 1, 2] and len(parts) == 3
    assert [int(zoo.start[0]) for zoo in parts] == [0, 1, 2]
    chex.assert_trees_all_equal(parts[2].variables, worlds.zoo("free").variables)
    with pytest.raises(IndexError):
        parts[3]
    network, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        hypernet.build(
            worlds.CLASSIFIER, worlds.train().x, worlds.fitted("free")[0].recipe
        ),
        worlds.CLASSIFIER,
        parts,
        worlds.train(),
        worlds.COURSE,
        segment_steps=10,
        progress=False,
    )
    assert np.isfinite(trace).all()


def test_eight_devices_equal_one():
    mesh = hf.sharding.make_mesh(examples=8)
    alone, trace = worlds.fitted("anchored")
    sharded, other = worlds.fit(mesh=mesh)
    # Gradients are summed in another order, and Adam divides by small numbers.
    np.testing.assert_allclose(other, trace, rtol=1e-3)
    chex.assert_trees_all_close(sharded.learnt.weights, alone.learnt.weights, atol=1e-3)
    # It is not bound to the mesh: it works with what lives on another device.
    starts = jax.tree.map(lambda leaf: leaf[0], worlds.zoo("anchored").starts)
    starts = jax.device_put(starts, jax.devices()[1])
    unlearner = hf.dihyfo(worlds.CLASSIFIER, sharded)
    state = unlearner.init(jax.random.key(0), starts, worlds.train())
    request = hf.forget_labels([1], num_classes=4)
    jax.jit(unlearner.unlearn)(jax.random.key(1), state, request)


def test_a_hypernetwork_round_trips_through_its_checkpoint(tmp_path):
    network, _ = worlds.fitted("anchored")
    hypernet.save_hypernetwork(tmp_path / "network", network)
    loaded = hypernet.load_hypernetwork(tmp_path / "network", worlds.CLASSIFIER)
    # What "auto" found is written down.
    assert loaded.recipe == dataclasses.replace(network.recipe, tokens="units")
    chex.assert_trees_all_equal(loaded.learnt, network.learnt)
    with pytest.raises(ValueError, match="belongs to the model"):
        other = hf.from_linen(hf.models.MLP((6,), 4))
        hypernet.load_hypernetwork(tmp_path / "network", other)
    hf.checkpointing.save(tmp_path / "zoo", worlds.zoo("free").loss, kind="zoo")
    with pytest.raises(ValueError, match="holds 'zoo', not 'hypernetwork'"):
        hypernet.load_hypernetwork(tmp_path / "zoo", worlds.CLASSIFIER)
    older = {**dataclasses.asdict(network.recipe), "free_prompts": 0.0}
    hf.checkpointing.save(
        tmp_path / "older",
        network.learnt,
        kind="hypernetwork",
        model=network.classifier,
        config={"recipe": older},
    )
    with pytest.raises(ValueError, match=r"recipe has \['free_prompts'\].*Fit it anew"):
        hypernet.load_hypernetwork(tmp_path / "older", worlds.CLASSIFIER)
    with pytest.raises(ValueError, match="learnt nothing"):
        hypernet.save_hypernetwork(tmp_path / "x", network._replace(learnt=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "both"}, "mode must be one of"),
        ({"prediction": "x1"}, "prediction must be one of"),
        ({"width": 10, "heads": 4}, "width must divide by heads"),
        ({"depth": 0}, "depth must be a positive integer"),
    ],
)
def test_malformed_recipes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(hypernet.Recipe(), **changes)


def test_the_wrong_zoo_or_classifier_is_named():
    classifier = worlds.CLASSIFIER
    free = hypernet.build(classifier, worlds.train().x, hypernet.Recipe(mode="free"))
    arguments = (worlds.zoo("anchored"), worlds.train(), worlds.COURSE)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="free mode learns from a free zoo"):
        hypernet.fit_hypernetwork(key, free, classifier, *arguments)
    with pytest.raises(ValueError, match="hypernetwork is for the classifier"):
        hypernet.fit_hypernetwork(key, free, toys.softmax_regression(), *arguments)
    zoo, train, course = arguments
    network, clf = hypernet.build(classifier, train.x), classifier
    for changed, message in (
        ((clf, clf, zoo, train, course), "hypernetwork must be"),
        ((network, 3, zoo, train, course), "classifier must be"),
        ((network, clf, 3, train, course), "zoo must be"),
        ((network, clf, [3], train, course), "zoo must be"),
        ((network, clf, [], train, course), "at least one"),
        (
            (network, clf, zoo, train, course._replace(learning_rate=-1.0)),
            "learning_rate must be positive",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            hypernet.fit_hypernetwork(key, *changed)
    with pytest.raises(TypeError, match="recipe must be a hypernet.Recipe"):
        hypernet.build(classifier, train.x, {"mixer": "mean"})
    with pytest.raises(ValueError, match="samples params alone"):
        hypernet.build(toys.normalised(), worlds.train().x, free.recipe)
