"""Training a hypernetwork, and its checkpoints."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet, trees
from hyperforget_jax.hypernet import dataset, train
from tests import toys
from tests.hypernet import worlds

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["edit", "generate"])
def test_the_loss_falls(mode):
    config = dataclasses.replace(worlds.CONFIG, steps=100)
    _, params, trace = worlds.fit(mode, config)
    assert trace.shape == (100,) and np.isfinite(trace).all()
    # Medians: a few pairs in a step are harder than others.
    assert np.median(trace[-20:]) < 0.7 * np.median(trace[:20])
    chex.assert_tree_all_finite(params)


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
    config = hypernet.HypernetConfig(width=16, heads=2, depth=1, **changes)
    _, params, trace = worlds.fit(config=config)
    assert trace[-5:].mean() < trace[:5].mean()
    chex.assert_tree_all_finite(params)


def test_a_fresh_network_changes_nothing():
    config = hypernet.HypernetConfig(width=16, heads=2)
    network = hypernet.build(worlds.CLASSIFIER, worlds.train().x, config)
    fresh = network.init(jax.random.key(0))
    params = worlds.fitted("edit")[1]._replace(weights=fresh.weights)
    source = trees.take(worlds.zoo("edit").starts, 0)["params"]
    made = hypernet.sample_params(
        jax.random.key(1),
        network,
        params,
        source,
        jnp.ones(4),
        jnp.arange(4) == 1,
        hypernet.Sampler(steps=3),
    )
    chex.assert_trees_all_equal(made, source)


def test_permuting_the_units_of_a_model_permutes_the_prediction():
    network, params, _ = worlds.fitted("edit")
    permute = network.tokenizer.permute
    order = (jnp.array([3, 0, 4, 1, 2]),)
    source = trees.take(worlds.zoo("edit").starts, 0)["params"]
    noised = jax.tree.map(jnp.ones_like, source)
    prompt = hypernet.features("dihyfo_2", jnp.ones(4), jnp.arange(4) == 1)
    t = jnp.array(0.7)
    own = network.denoise(params, noised, source, t, prompt)
    other = network.denoise(
        params, permute(noised, order), permute(source, order), t, prompt
    )
    # Sums over units in another order.
    chex.assert_trees_all_close(other, permute(own, order), atol=1e-5)


def test_without_warmup_the_average_keeps_what_it_began_with():
    config = dataclasses.replace(worlds.CONFIG, ema_warmup=False)
    _, held, _ = worlds.fit(train_config=config)
    _, moved, _ = worlds.fitted("edit")

    def size(params):  # The decoder began at zero.
        weights = params.weights["decode_0_Dense_0"]["kernel"]
        return float(jnp.abs(weights).mean())

    assert size(held) < 0.2 * size(moved)


def test_a_training_that_was_killed_ends_as_one_that_was_not(tmp_path, monkeypatch):
    _, whole, trace = worlds.fit()
    real, calls = hf.checkpointing.save, []

    def save(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(hf.checkpointing, "save", save)
    with pytest.raises(KeyboardInterrupt):
        worlds.fit(directory=tmp_path / "training")
    _, again, other = worlds.fit(directory=tmp_path / "training")
    chex.assert_trees_all_equal(again, whole)
    np.testing.assert_array_equal(other, trace)
    with pytest.raises(ValueError, match="started with segment_steps=10, not 15"):
        worlds.fit(segment_steps=15, directory=tmp_path / "training")


@pytest.mark.parametrize(
    "module, name, changed, field",
    [
        (train, "pair_loss", lambda real: lambda *a: 2 * real(*a), "program"),
        (
            train,
            "_optimizer",
            lambda real: lambda config: optax.chain(real(config), optax.trace(0.9)),
            "init",
        ),
    ],
)
def test_another_program_is_not_gone_on_with(
    tmp_path, monkeypatch, module, name, changed, field
):
    worlds.fit(directory=tmp_path / "training")
    monkeypatch.setattr(module, name, changed(getattr(module, name)))
    jax.clear_caches()  # As in another process.
    with pytest.raises(ValueError, match=f"started with {field}="):
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
    network, whole, trace = worlds.fit()
    zoo, reads = worlds.zoo("edit"), []

    class Turns:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if not 0 <= index < 2:
                raise IndexError(index)
            reads.append(index)
            return zoo

    classifier = worlds.CLASSIFIER
    params, other = hypernet.fit_hypernetwork(
        jax.random.key(2),
        network,
        classifier,
        Turns(),
        worlds.train(),
        worlds.CONFIG,
        segment_steps=10,
        progress=False,
    )
    # Percentiles of twice the same losses are others.
    expected = whole._replace(profiles=dataset.zoo_profiles([zoo, zoo]))
    chex.assert_trees_all_equal(params, expected)
    np.testing.assert_array_equal(other, trace)
    # For scales, for profiles, and then by turns.
    assert reads == [0, *[0, 1], *[0, 1, 0]]


def test_weightless_rows_are_as_good_as_absent():
    gone = jnp.asarray(np.flatnonzero(np.asarray(worlds.train().y) == 2))
    answers = []
    for data in (
        worlds.train(),
        toys.scribble(jax.random.key(4), worlds.train(), gone),
    ):
        params, _ = hypernet.fit_hypernetwork(
            jax.random.key(2),
            worlds.fitted("edit")[0],
            worlds.CLASSIFIER,
            worlds.zoo("edit"),
            data.without(gone),
            worlds.CONFIG,
            segment_steps=10,
            progress=False,
        )
        answers.append(params)
    chex.assert_trees_all_equal(*answers)


def test_every_start_keeps_its_own_normalisation_statistics():
    classifier = toys.normalised()
    zoo = worlds.drawn_zoo(classifier)
    pairs = jax.tree.map(jnp.asarray, dataset.pair_dataset(zoo))
    drawn = jax.vmap(lambda key: dataset.sample_pair(key, pairs))(
        jax.random.split(jax.random.key(1), 60)
    )
    means = np.asarray(zoo.starts["batch_stats"]["BatchNorm_0"]["mean"])
    biases = np.asarray(zoo.starts["params"]["Dense_0"]["kernel"])
    for own in range(60):
        begin = np.asarray(drawn.source["Dense_0"]["kernel"][own])
        start = np.flatnonzero((biases == begin[None]).all((1, 2)))
        if start.size:
            mean = drawn.others["batch_stats"]["BatchNorm_0"]["mean"][own]
            np.testing.assert_array_equal(mean, means[start[0]])
    config = hypernet.HypernetConfig(width=16, heads=2, depth=1)
    network = hypernet.build(classifier, worlds.train().x, config)
    _, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        network,
        classifier,
        zoo,
        worlds.train(),
        dataclasses.replace(worlds.CONFIG, steps=5),
        progress=False,
    )
    assert network.tokenizer.kind == "chunks" and np.isfinite(trace).all()


def test_networks_with_several_hidden_layers_train():
    classifier = hf.from_linen(hf.models.MLP((6, 5), 4))
    zoo = worlds.drawn_zoo(classifier)
    config = hypernet.HypernetConfig(width=16, heads=2, depth=1, dtype="bfloat16")
    network = hypernet.build(classifier, worlds.train().x, config)
    _, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        network,
        classifier,
        zoo,
        worlds.train(),
        dataclasses.replace(worlds.CONFIG, steps=100),
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
        return worlds.zoo("generate")._replace(start=np.full(20, part, np.int32))

    with pytest.raises(KeyboardInterrupt):
        hypernet.stored_zoo(tmp_path, 3, make)
    parts = hypernet.stored_zoo(tmp_path, 3, make)
    assert made == [0, 1, 1, 2] and len(parts) == 3
    assert [int(zoo.start[0]) for zoo in parts] == [0, 1, 2]
    chex.assert_trees_all_equal(parts[2].variables, worlds.zoo("generate").variables)
    with pytest.raises(IndexError):
        parts[3]
    _, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        worlds.fitted("generate")[0],
        worlds.CLASSIFIER,
        parts,
        worlds.train(),
        worlds.CONFIG,
        segment_steps=10,
        progress=False,
    )
    assert np.isfinite(trace).all()


def test_eight_devices_equal_one(tmp_path):
    """Losses and moments, which are the gradient: Adam would magnify its last bits."""
    config = dataclasses.replace(worlds.CONFIG, steps=2)
    mesh, segments = hf.sharding.make_mesh(examples=8), dict(segment_steps=1)
    folders = tmp_path / "one", tmp_path / "eight"
    network, *_ = worlds.fit("edit", config, directory=folders[0], **segments)
    _, sharded, trace = worlds.fit(
        "edit", config, directory=folders[1], mesh=mesh, **segments
    )
    alone, other = map(hf.checkpointing.load, folders)
    assert (trace > 0).all()
    for name in ("trace", "opt_state"):
        chex.assert_trees_all_close(other[name], alone[name], atol=1e-5)
    # It is not bound to the mesh: it works with what lives on another device.
    starts = trees.take(worlds.zoo("edit").starts, 0)
    starts = jax.device_put(starts, jax.devices()[1])
    unlearner = hf.dihyfo(worlds.CLASSIFIER, network, sharded)
    state = unlearner.init(jax.random.key(0), starts, worlds.train())
    request = hf.forget_labels([1], num_classes=4)
    jax.jit(unlearner.unlearn)(jax.random.key(1), state, request)


def test_a_hypernetwork_round_trips_through_its_checkpoint(tmp_path):
    network, params, _ = worlds.fitted("edit")
    assert network.config.tokens == "units"  # What "auto" found is written down.
    hypernet.save_hypernetwork(tmp_path / "network", network, params)
    loaded, own = hypernet.load_hypernetwork(tmp_path / "network", worlds.CLASSIFIER)
    assert loaded == network and hash(loaded) == hash(network)
    chex.assert_trees_all_equal(own, params)
    with pytest.raises(ValueError, match="belongs to the model"):
        other = hf.from_linen(hf.models.MLP((6,), 4))
        hypernet.load_hypernetwork(tmp_path / "network", other)
    hf.checkpointing.save(tmp_path / "zoo", worlds.zoo("generate").loss, kind="zoo")
    with pytest.raises(ValueError, match="holds 'zoo', not 'hypernetwork'"):
        hypernet.load_hypernetwork(tmp_path / "zoo", worlds.CLASSIFIER)
    old = {**dataclasses.asdict(network.config), "free_prompts": 0.0}
    for name, config in (("a", {"recipe": old}), ("b", {"architecture": old})):
        hf.checkpointing.save(
            tmp_path / name,
            params,
            kind="hypernetwork",
            model=network.classifier,
            config=config,
        )
        with pytest.raises(ValueError, match=r"another version.*free_prompts.*anew"):
            hypernet.load_hypernetwork(tmp_path / name, worlds.CLASSIFIER)
    with pytest.raises(TypeError, match="params must be what fit_hypernetwork gives"):
        hypernet.save_hypernetwork(tmp_path / "x", network, None)


def test_networks_made_alike_are_equal_and_share_programs():
    x, traces = worlds.train().x, []

    @functools.partial(jax.jit, static_argnums=0)
    def init(network, key):
        traces.append(network)
        return network.init(key)

    config = hypernet.HypernetConfig(width=16, heads=2)
    for width, count in ((16, 1), (16, 1), (32, 2)):
        own = dataclasses.replace(config, width=width)
        init(hypernet.build(worlds.CLASSIFIER, x, own), jax.random.key(0))
        assert len(traces) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "both"}, "mode must be one of"),
        ({"prediction": "x1"}, "prediction must be one of"),
        ({"width": 10, "heads": 4}, "width must divide by heads"),
        ({"depth": 0}, "depth must be positive"),
    ],
)
def test_malformed_configs_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(hypernet.HypernetConfig(), **changes)


def test_the_wrong_zoo_or_classifier_is_named():
    classifier = worlds.CLASSIFIER
    free = hypernet.build(
        classifier, worlds.train().x, hypernet.HypernetConfig(mode="generate")
    )
    arguments = (worlds.zoo("edit"), worlds.train(), worlds.CONFIG)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="generate mode .* by hypernet.generate_zoo"):
        hypernet.fit_hypernetwork(key, free, classifier, *arguments)
    with pytest.raises(ValueError, match="hypernetwork is for the classifier"):
        hypernet.fit_hypernetwork(key, free, toys.softmax_regression(), *arguments)
    zoo, data, config = arguments
    network, clf = hypernet.build(classifier, data.x), classifier
    for changed, message in (
        ((clf, clf, zoo, data, config), "hypernetwork must be"),
        ((network, 3, zoo, data, config), "classifier must be"),
        ((network, clf, 3, data, config), "zoo must be"),
        ((network, clf, [3], data, config), "zoo must be"),
        ((network, clf, [], data, config), "at least one"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            hypernet.fit_hypernetwork(key, *changed)
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        hypernet.TrainConfig(learning_rate=-1.0)
    with pytest.raises(TypeError, match="config must be a hypernet.HypernetConfig"):
        hypernet.build(classifier, data.x, {"mixer": "mean"})
    with pytest.raises(ValueError, match="samples params alone"):
        hypernet.build(toys.normalised(), worlds.train().x, free.config)
