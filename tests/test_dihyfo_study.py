"""The study of hypernetworks: what no zoo has, how it measures, what it refuses."""

import dataclasses
import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet, trees
from tests import scripts, toys
from tests.hypernet import worlds as small

# What it compiles takes long: .ci/run alone runs it.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def modules():
    names = "presets", "artifacts", "metrics"
    main, *parts = scripts.load("dihyfo", *(f"dihyfo_{name}" for name in names))
    return types.SimpleNamespace(main=main, **dict(zip(names, parts, strict=True)))


def test_unseen_pairs_are_in_no_zoo(modules):
    for preset in modules.presets.PRESETS.values():
        masks = {tuple(mask) for mask in preset.masks}
        assert {(label,) for label in range(10)} <= masks
        assert len(preset.unseen) >= 15 and not masks & set(preset.unseen)


def test_alignment_is_that_of_gpt(modules):
    asked, came = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 3.0])
    mean = 7 / 3
    total = (1 - mean) ** 2 + (2 - mean) ** 2 + (4 - mean) ** 2
    expected = 1 - 2 / total
    np.testing.assert_allclose(modules.metrics.alignment(asked, came), expected)
    assert modules.metrics.alignment(asked, asked) == 1


def test_novelty_of_a_copy_is_zero(modules):
    ends = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    apart = modules.metrics.nearest_other(ends)
    assert apart == 5
    copy = {"w": jnp.array([[3.0, 4.0]])}
    assert modules.metrics.novelty(copy, ends, apart)["nearest_distance"] == 0
    other = {"w": jnp.array([[3.0, 14.0]])}
    found = modules.metrics.novelty(other, ends, apart)
    np.testing.assert_allclose(found["nearest_distance_ratio"], np.sqrt(45) / 5)


def test_a_copy_in_another_order_is_no_novelty(modules):
    metrics = modules.metrics
    tokenizer = hypernet.build(
        small.CLASSIFIER, small.train().x, hypernet.HypernetConfig(mode="generate")
    ).tokenizer
    zoo = small.zoo("generate")
    last = jax.tree.map(lambda leaf: leaf[:, -1], zoo.variables["params"])
    last, _, _ = hypernet.canonicalise(tokenizer, last)
    flat = modules.artifacts.flat(last)
    orders = np.array([np.random.default_rng(i).permutation(5) for i in range(20)])
    shuffled = hypernet.permute_all(tokenizer, last, (orders,))
    mean = jax.tree.map(lambda leaf: leaf.mean(0), last)
    apart = metrics.nearest_other(flat)
    blind = metrics.novelty(shuffled, flat, apart)
    assert blind["nearest_distance_ratio"] > 1
    found = metrics.novelty(shuffled, flat, apart, (tokenizer, mean))
    # Where a model was matched to the mean before the mean settled, others are nearer.
    assert found["nearest_distance_ratio"] < 0.1


def test_the_scale_by_the_probe_is_the_least_that_is_enough(modules):
    scales = len(modules.metrics.SCALES)
    left = np.ones((scales, 2, 1))
    left[1:, 0] = 0  # The second class is never gone.
    forget = np.arange(2.0 * scales).reshape(left.shape)
    found = modules.metrics.Scaled(forget, left, -left, forget[0], np.array([1.5]))
    np.testing.assert_array_equal(found.by_probe(), [[1], [scales - 1]])
    metrics = found.metrics(found.by_probe())
    assert metrics == [
        {
            "forget_accuracy_test": (2 + 2 * scales - 1) / 2,
            "forget_accuracy_worst_class": 2 * scales - 1,
            "retain_accuracy_test": -0.5,
            "retain_accuracy_before": 0.5,
            "norm_ratio": 1.5,
        }
    ]


def test_every_class_is_forgotten_by_every_model_at_every_scale(modules):
    metrics, splits = modules.metrics, hf.data.load("digits")
    classifier = hf.from_linen(hf.models.MLP((4,)))
    network = hypernet.build(
        classifier, splits.train.x, hypernet.HypernetConfig(width=8, depth=1, heads=2)
    )
    # Weights that are noise: models are changed, and not for the better.
    params = network.init(jax.random.key(0))
    profiles = params.profiles._replace(norms=jnp.array([1.0, 2.0]))
    noise = optax.tree.random_like(jax.random.key(3), params.weights)
    params = params._replace(weights=noise, profiles=profiles)
    trained = modules.artifacts.Trained(network, params)
    keys = jax.random.split(jax.random.key(0), 3)
    variables = jax.vmap(classifier.init, (0, None))(keys, splits.train.x)
    study = types.SimpleNamespace(classifier=classifier, splits=splits)
    found = metrics.scaled(study, trained, jax.random.key(1), variables)

    for at, label, seed in ((0, 3, 1), (2, 7, 0)):
        unlearner = hf.dihyfo(classifier, *trained, scale=metrics.SCALES[at])
        own = trees.take(variables, seed)
        key = jax.random.split(jax.random.key(1), 3)[seed]
        init = jax.jit(unlearner.init)(key, own, splits.train)
        request = hf.forget_labels([label], num_classes=10)
        state, _ = jax.jit(unlearner.unlearn)(key, init, request)
        test, probe, before = (
            hypernet.class_scores(classifier, model, split).accuracy
            for model, split in (
                (state.variables, splits.test),
                (state.variables, splits.probe),
                (own, splits.test),
            )
        )
        place = at, label, seed
        # A row may fall to either side of a boundary; the test split has about 360.
        close = functools.partial(np.testing.assert_allclose, atol=0.01)
        close(found.forget[place], test[label])
        close(found.left[place], probe[label])
        close(found.retain[place], np.delete(test, label).mean())
        close(found.before[place[1:]], np.delete(before, label).mean())
    assert len(np.unique(found.retain)) > 30  # Scales, classes and models differ.
    norm = jax.vmap(optax.tree.norm)(variables["params"])
    np.testing.assert_allclose(found.norm_ratio, norm / norm.clip(1, 2), rtol=1e-5)

    by_margins = metrics.by_the_method(study, trained, jax.random.key(1), variables)
    unlearner = hf.dihyfo(classifier, *trained, probe=splits.probe)
    init, ask = jax.jit(unlearner.init), jax.jit(unlearner.unlearn)
    for seed in (0, 2):
        key = jax.random.split(jax.random.key(1), 3)[seed]
        state = init(key, trees.take(variables, seed), splits.train)
        answers = [
            ask(key, state, hf.forget_labels([c], num_classes=10)) for c in range(10)
        ]
        refused = np.array([info.refused for _, info in answers])
        assert by_margins[seed]["refused"] == refused.mean()
        counted = np.flatnonzero(~refused) if not refused.all() else np.arange(10)
        left = [
            hypernet.class_scores(classifier, answers[c][0].variables, splits.test)
            for c in counted
        ]
        pairs = list(zip(counted, left, strict=True))
        for name, values in (
            ("forget_accuracy_test", [one.accuracy[c] for c, one in pairs]),
            (
                "retain_accuracy_test",
                [np.delete(one.accuracy, c).mean() for c, one in pairs],
            ),
            ("scale", [answers[c][1].scale for c in counted]),
        ):
            close(by_margins[seed][name], np.mean(values))


def test_the_mixed_zoo_has_starts_of_every_kind(modules, tmp_path, monkeypatch):
    artifacts = modules.artifacts.Artifacts
    kinds = modules.presets.PRESETS["digits"].out_of_distribution
    preset = dataclasses.replace(modules.presets.PRESETS["digits"], starts=10)
    made = artifacts(preset, tmp_path, None, toys.perceptron())
    asked = []

    def starts(self, seed, config, members):
        asked.append((config.steps, members))
        return {"params": np.full((members, 2), float(seed))}

    monkeypatch.setattr(artifacts, "starts", starts)
    monkeypatch.setattr(artifacts, "_edit_zoo", lambda self, starts, seed: starts)
    monkeypatch.setattr(artifacts, "_zoo", lambda self, name, make: make())
    zoo = made.mixed_zoo()
    mixed = [kind.steps for kind in kinds if kind.mixed]
    assert asked == [(400, 10 - 2 * len(mixed)), *((steps, 2) for steps in mixed)]
    assert zoo["params"].shape == (10, 2)


def test_what_diverged_is_no_start(modules, tmp_path):
    splits = hf.data.load("digits")
    small = hf.from_linen(hf.models.MLP((4,)))
    preset = modules.presets.PRESETS["digits"]
    made = modules.artifacts.Artifacts(preset, tmp_path, splits, small)
    config = hypernet.FitConfig(optax.sgd(jnp.inf), 2, 8)
    with (
        pytest.warns(RuntimeWarning, match="not finite"),
        pytest.raises(AssertionError, match="diverged"),
    ):
        made.starts(0, config, 2)


def test_the_probe_is_declared_where_it_chooses(modules):
    study = types.SimpleNamespace(recipe=modules.presets.PRESETS["digits"].recipe)
    for dose, reads in (
        ("1.5", ["classes"]),
        ("by the probe", ["classes", "probe"]),
        ("by margins", ["classes", "probe"]),
    ):
        row = modules.main.row_of(
            study, "strangers", "dihyfo_2", "classes", [{"a": 0.0}], {"dose": dose}
        )
        assert sorted(row["access"]["unlearn"]) == reads


def test_a_share_of_the_zoo_is_that_of_its_starts(modules, tmp_path):
    made = modules.artifacts.Artifacts(
        modules.presets.PRESETS["digits"], tmp_path, None, toys.perceptron()
    )
    hypernet.save_zoo(tmp_path / "zoo", small.zoo("edit"))
    part = made.edit_zoo(share=0.5)
    assert part.masks.shape == (15, 4) and part.start.max() == 2
    whole = small.zoo("edit")
    np.testing.assert_array_equal(part.loss, whole.loss[whole.start < 3])
    leaf = jax.tree.leaves(part.starts)[0]
    np.testing.assert_array_equal(leaf, jax.tree.leaves(whole.starts)[0][:3])


def test_what_is_not_there_is_named(modules, tmp_path, capsys):
    for options, message in (
        ({"preset": "imagenet"}, "--preset must be among .*; got imagenet"),
        ({"scenarios": ("all",)}, "--scenarios must be among .*; got all"),
        ({"variants": ("dihyfo_3",)}, "--variants must be among .*; got dihyfo_3"),
        ({"samples": 0}, "--samples must be positive"),
        ({"methods": ("magic",)}, "--methods must be among .*; got magic"),
    ):
        config = modules.main.DiHyFo(out=tmp_path / "none", **options)
        with pytest.raises(SystemExit, match="2"):
            modules.main.main(config)
        assert re.match(message, capsys.readouterr().err)
    assert not (tmp_path / "none").exists()
