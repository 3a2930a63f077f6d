"""The hypernetwork as an unlearner: what it reads, reports and refuses."""

import math
import re
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import toys
from tests.hypernet import worlds

pytestmark = pytest.mark.slow

CLASSES = toys.NUM_CLASSES


def prepared(mode="edit", **options):
    classifier = worlds.CLASSIFIER
    unlearner = hf.dihyfo(classifier, *worlds.fitted(mode)[:2], **options)
    starts = worlds.zoo("edit").starts
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), starts)
    state = unlearner.init(jax.random.key(0), variables, worlds.train())
    return classifier, unlearner, jax.jit(unlearner.unlearn), state


def ask(*labels):
    return hf.forget_labels(list(labels), num_classes=CLASSES)


@pytest.mark.parametrize("mode", ["edit", "generate"])
def test_labels_alone_are_enough_and_the_classes_are_remembered(mode):
    _, _, unlearn, state = prepared(mode)
    after, info = unlearn(jax.random.key(1), state, ask(2))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    np.testing.assert_array_equal(after.forgotten, [False, False, True, False])
    profile = hypernet.profile(state.hypernet_params.profiles, after.forgotten)
    chex.assert_trees_all_equal(info.prompt, profile)
    assert info.achieved is None and not info.refused
    again, info = unlearn(jax.random.key(2), after, ask(0))
    np.testing.assert_array_equal(again.forgotten, [True, False, True, False])
    assert info.prompt[0] > 1 and info.prompt[2] > 1


def test_the_generate_mode_does_not_read_the_model():
    _, _, unlearn, state = prepared("generate")
    other = state._replace(
        variables=jax.tree.map(lambda leaf: leaf + 1, state.variables)
    )
    answers = [unlearn(jax.random.key(1), own, ask(2))[0] for own in (state, other)]
    chex.assert_trees_all_equal(answers[0].variables, answers[1].variables)


def test_keys_make_different_samples_and_equal_keys_equal_ones():
    _, _, unlearn, state = prepared("generate", steps=4)
    first, same, other = (
        unlearn(jax.random.key(seed), state, ask(1))[0].variables for seed in (1, 1, 2)
    )
    chex.assert_trees_all_equal(first, same)
    kernels = [own["params"]["Dense_0"]["kernel"] for own in (first, other)]
    assert (kernels[0] != kernels[1]).all()


def test_the_scale_multiplies_the_change():
    changes = []
    for scale in (0.0, 1.0, 2.0):
        _, _, unlearn, state = prepared(scale=scale)
        after = unlearn(jax.random.key(1), state, ask(3))[0].variables
        changes.append(jax.tree.map(jnp.subtract, after, state.variables))
    chex.assert_trees_all_equal(changes[0], jax.tree.map(jnp.zeros_like, changes[0]))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, changes[1])
    chex.assert_trees_all_close(doubled, changes[2], atol=1e-5)


def test_sets_are_the_sum_of_what_single_classes_change():
    _, _, unlearn, state = prepared(sets="sum")
    before = state.variables

    def change(key, *labels):
        after = unlearn(key, state, ask(*labels))[0].variables
        return jax.tree.map(jnp.subtract, after, before)

    key = jax.random.key(1)
    together = change(key, 0, 3)
    alone = jax.tree.map(jnp.add, change(key, 0), change(key, 3))
    chex.assert_trees_all_close(together, alone, atol=1e-5)


@pytest.mark.parametrize("sets", hypernet.SETS)
def test_losses_that_are_asked_for_are_asked_for_of_sets_too(sets):
    asked = np.full(CLASSES, 0.1, np.float32)
    answers = []
    for loss in (2.0, 6.0):
        asked[[0, 1]] = loss
        _, _, unlearn, state = prepared(prompt=list(map(float, asked)), sets=sets)
        after, info = unlearn(jax.random.key(1), state, ask(0, 1))
        np.testing.assert_array_equal(info.prompt, asked)
        answers.append(after.variables["params"]["Dense_0"]["kernel"])
    assert (answers[0] != answers[1]).any()


def test_a_protected_change_is_seen_less_by_retained_rows():
    train = worlds.train()
    moved, left = [], []
    for protect in (0.0, 3.0):
        classifier, unlearner, unlearn, state = prepared(protect=protect)
        assert (state.grams is None) == (protect == 0)
        assert bool(unlearner.access.init) == (protect > 0)
        after, _ = unlearn(jax.random.key(1), state, ask(2))
        before, logits = (
            np.asarray(classifier.apply(own.variables, train.x))
            for own in (state, after)
        )
        others = np.array([0, 1, 3])
        change = (logits - before)[:, others]
        moved.append(np.square(change[train.y != 2]).mean())
        left.append(np.mean(logits[train.y == 2].argmax(1) == 2))
    assert moved[1] < 0.3 * moved[0]
    assert left[1] <= left[0] + 0.1


def test_a_protected_second_request_leaves_what_was_forgotten_out():
    _, _, unlearn, state = prepared(protect=3.0)
    first, _ = unlearn(jax.random.key(1), state, ask(2))
    both, _ = unlearn(jax.random.key(2), first, ask(2, 0))
    alone, _ = unlearn(jax.random.key(2), first, ask(0))
    chex.assert_trees_all_close(both.variables, alone.variables, atol=1e-6)
    again, info = unlearn(jax.random.key(2), first, ask(2))
    assert info.refused
    chex.assert_trees_all_equal(again.variables, first.variables)
    with pytest.raises(TypeError, match="protect must be known before tracing"):
        jax.jit(lambda protect: prepared(protect=protect)[3])(3.0)


def test_what_is_forgotten_is_not_forgotten_twice():
    _, _, unlearn, state = prepared()
    after, _ = unlearn(jax.random.key(1), state, ask(2))
    again, info = unlearn(jax.random.key(2), after, ask(2))
    chex.assert_trees_all_equal(again, after)
    assert info.refused
    _, info = unlearn(jax.random.key(2), after, ask(1, 2))
    assert not info.refused


def test_a_sample_that_is_not_finite_has_forgotten_nothing(monkeypatch):
    classifier, (network, params, _) = worlds.CLASSIFIER, worlds.fitted("edit")
    broken = jax.random.split(jax.random.key(1), 3)[1]
    forget = hypernet.forget_set

    def sometimes(key, *arguments):
        params = forget(key, *arguments)
        data = jax.random.key_data
        factor = jnp.where((data(key) == data(broken)).all(), jnp.nan, 1)
        return jax.tree.map(lambda leaf: factor * leaf, params)

    monkeypatch.setattr(hypernet, "forget_set", sometimes)
    options = dict(probe=worlds.probe(), best_of=3, most_left=1.0)
    unlearner = hf.dihyfo(classifier, network, params, **options)
    _, _, _, state = prepared(probe=worlds.probe())
    after, info = unlearner.unlearn(jax.random.key(1), state, ask(2))
    for found in (info.forgotten_accuracy, info.retained_accuracy):
        np.testing.assert_array_equal(np.isnan(found), [False, True, False])
    assert info.chosen != 1
    chex.assert_tree_all_finite(after.variables)


def test_the_change_is_scaled_up_until_enough_is_forgotten():
    options = dict(probe=worlds.probe(), scale=6.0)
    _, _, unlearn, state = prepared(**options, most_left=0.0)
    _, refused = unlearn(jax.random.key(1), state, ask(2))
    left = np.asarray(refused.left)
    most_left = float(left.min() + left[0]) / 2
    assert left.shape == (7,) and refused.refused and left[0] > most_left
    _, _, unlearn, state = prepared(**options, most_left=most_left)
    after, info = unlearn(jax.random.key(1), state, ask(2))
    assert not info.refused and info.chosen == (left <= most_left).argmax()
    # The least scale that is enough, as if it had been asked for.
    plain = dict(probe=worlds.probe(), scale=float(info.scale), most_left=1.0)
    _, _, ask_once, fresh = prepared(**plain)
    once, told = ask_once(jax.random.key(1), fresh, ask(2))
    assert told.left.shape == (1,) and told.scale == info.scale
    chex.assert_trees_all_close(after.variables, once.variables, atol=1e-6)


def test_few_probe_rows_of_a_class_are_warned_of():
    few = worlds.probe()._replace(weight=(jnp.arange(40) < 8).astype(jnp.int32))
    with pytest.warns(UserWarning, match="probe has fewer than 5 rows of the classes"):
        prepared(probe=few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared(probe=few, most_left=1.0)


@pytest.mark.parametrize("options", [{"protect": 3.0}, {"probe": worlds.probe()}])
def test_a_state_of_other_settings_is_refused(options):
    (name,) = options
    for own, other in ((options, {}), ({}, options)):
        _, _, unlearn, _ = prepared(**own)
        state = prepared(**other)[3]
        with pytest.raises(ValueError, match=f"with(out)? {name}, and this one is"):
            unlearn(jax.random.key(1), state, ask(2))


def test_a_request_after_which_too_much_is_left_is_refused():
    options = dict(probe=worlds.probe(), scale=0.01, best_of=2)
    _, _, unlearn, state = prepared(**options)
    after, info = unlearn(jax.random.key(1), state, ask(2))
    assert info.refused and (info.left > 1e-3).all()
    chex.assert_trees_all_equal(after, state)
    assert info.change.moved == 0 and info.chosen == info.left.argmin()


@pytest.mark.parametrize("sets", ["sequence", "direct"])
def test_sets_may_be_forgotten_in_other_ways(sets):
    _, _, unlearn, state = prepared(sets=sets)
    after, info = unlearn(jax.random.key(1), state, ask(0, 1))
    np.testing.assert_array_equal(after.forgotten, [True, True, False, False])
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    summed = prepared()[2](jax.random.key(1), state, ask(0, 1))[0]
    own = jax.tree.leaves(after.variables)[1]
    assert (own != jax.tree.leaves(summed.variables)[1]).any()


def test_the_best_sample_is_that_with_the_least_loss_on_retained_probe_rows():
    probe = worlds.probe()
    classifier, unlearner, unlearn, state = prepared(
        "generate", steps=3, best_of=5, probe=probe, most_left=1.0
    )
    assert unlearner.access.unlearn == {"classes", "probe"}
    key = jax.random.key(4)
    after, info = unlearn(key, state, ask(1))
    assert info.retained_accuracy.shape == (5,)
    _, _, raw, plain = prepared("generate", steps=3)
    scores, accuracies, forgotten = [], [], []
    for own in jax.random.split(key, 5):
        params = hypernet.sample_params(
            own,
            worlds.fitted("generate")[0],
            state.hypernet_params,
            plain.variables["params"],
            info.prompt,
            jnp.arange(CLASSES) == 1,
            hypernet.Sampler(steps=3),
        )
        logits = classifier.apply({"params": params}, probe.x)
        loss = np.asarray(hf.losses.cross_entropy(logits, probe.y))
        right = np.asarray(logits.argmax(1) == probe.y)
        # Classes count alike, however many rows they have.
        for values, into in ((loss, scores), (right, accuracies)):
            classes = [values[np.asarray(probe.y) == c].mean() for c in (0, 2, 3)]
            into.append(np.mean(classes))
        forgotten.append(right[np.asarray(probe.y) == 1].mean())
    assert int(info.chosen) == int(np.argmin(scores))
    np.testing.assert_allclose(info.retained_accuracy, accuracies, atol=1e-6)
    np.testing.assert_allclose(info.forgotten_accuracy, forgotten, atol=1e-6)
    best = hypernet.class_scores(classifier, after.variables, probe)
    chex.assert_trees_all_close(info.achieved, best.loss, rtol=1e-5)


def test_the_forgotten_probe_rows_do_not_matter():
    probe = worlds.probe()
    gone = jnp.asarray(np.flatnonzero(np.asarray(probe.y) == 1))
    noise = 100 * jax.random.normal(jax.random.key(3), probe.x.shape)
    noisy = probe._replace(x=probe.x.at[gone].set(noise[gone]))
    answers = []
    for own in (probe, noisy):
        unlearner = hf.dihyfo(
            worlds.CLASSIFIER, *worlds.fitted("generate")[:2], best_of=4, probe=own
        )
        state = prepared()[3]
        state = unlearner.init(jax.random.key(0), state.variables, worlds.train())
        answers.append(unlearner.unlearn(jax.random.key(1), state, ask(1))[0].variables)
    chex.assert_trees_all_equal(*answers)


@pytest.mark.parametrize(
    ("ratio", "warns"),
    [(2.0, True), (1.05, False), (1.0, False), (0.95, False), (0.5, True)],
)
def test_models_of_another_size_are_told_apart(ratio, warns):
    _, unlearner, unlearn, state = prepared()
    low, high = np.asarray(state.hypernet_params.profiles.norms)
    wanted = ratio * (high if ratio > 1 else low if ratio < 1 else (low + high) / 2)
    norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(state.variables)))
    own = jax.tree.map(lambda leaf: wanted / norm * leaf, state.variables)
    arguments = jax.random.key(0), own, worlds.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not warns:
            unlearner.init(*arguments)
        # Not where norms are not known.
        jax.jit(unlearner.init)(*arguments)
    if warns:
        with pytest.warns(
            UserWarning,
            match=f"{ratio:.2f} times the {'largest' if ratio > 1 else 'smallest'}",
        ):
            unlearner.init(*arguments)
    _, info = unlearn(jax.random.key(1), state._replace(variables=own), ask(2))
    np.testing.assert_allclose(info.norm_ratio, ratio, rtol=1e-5)


def test_the_generate_mode_knows_no_size():
    _, unlearner, unlearn, state = prepared("generate")
    own = jax.tree.map(lambda leaf: 10 * leaf, state.variables)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unlearner.init(jax.random.key(0), own, worlds.train())
    assert unlearn(jax.random.key(1), state, ask(1))[1].norm_ratio is None


def test_requests_for_rows_are_refused():
    _, unlearner, unlearn, state = prepared()
    request = hf.forget_rows(worlds.train(), [1, 2])
    with pytest.raises(ValueError, match="names no class"):
        unlearner.unlearn(jax.random.key(0), state, request)
    after, info = unlearn(jax.random.key(0), state, request)
    chex.assert_trees_all_equal(after, state)
    assert info.refused


def test_malformed_arguments_are_named():
    classifier, (network, params, _) = worlds.CLASSIFIER, worlds.fitted("edit")
    for options, message in (
        ({"prompt": "best"}, "prompt must be 'profile'"),
        ({"prompt": [1.0, 2.0]}, "a loss for each of 4 classes"),
        ({"prompt": [1.0, 2.0, -1.0, 0.0]}, "finite and not negative"),
        ({"prompt": [1.0, np.inf, 1.0, 0.0]}, "finite and not negative"),
        ({"sets": "product"}, "sets must be one of"),
        ({"best_of": 3}, "needs a probe"),
        ({"steps": 0}, "steps must be positive"),
        ({"steps": 2.0}, "steps must be a whole number"),
        ({"best_of": "2"}, "best_of must be a whole number"),
        ({"scale": -1.0}, "scale must be finite and not negative"),
        ({"scale": np.nan}, "scale must be finite and not negative"),
        ({"most_left": -0.1}, "most_left must be finite and not negative"),
        ({"protect": -1.0}, "protect must be finite and not negative"),
        ({"protect": "yes"}, "protect must be a number"),
        ({"scale": "2"}, "scale must be a number"),
        ({"scale": None}, "scale must be a number"),
        ({"scale": [1.0, 2.0]}, "scale must be a number"),
        ({"scale": 1 + 2j}, "scale must be a number"),
        ({"prompt": None}, "prompt must be 'profile'"),
        ({"prompt": ["a"] * 4}, "prompt must be 'profile'"),
        ({"probe": toys.points(features=7)}, r"probe.x must be \[M"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            hf.dihyfo(classifier, network, params, **options)
    with pytest.raises(TypeError, match="classifier must be a hf.Classifier"):
        hf.dihyfo(hf.models.MLP((3,)), network, params)
    _, unlearner, _, state = prepared()
    with pytest.raises(TypeError, match="data must be hf.Examples"):
        unlearner.init(jax.random.key(0), state.variables, None)
    seen = hf.dihyfo(classifier, network, params, probe=worlds.train())
    with pytest.raises(ValueError, match="probe must be held out of training"):
        seen.init(jax.random.key(0), state.variables, worlds.train())
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, state.variables)
    with pytest.raises(ValueError, match="must be finite"):
        unlearner.init(jax.random.key(0), broken, worlds.train())
    with pytest.raises(ValueError, match="was trained for"):
        hf.dihyfo(toys.softmax_regression(), network, params)
    with pytest.raises(TypeError, match="hypernetwork must be .* hypernet.build"):
        hf.dihyfo(classifier, classifier, params)
    blind = classifier._replace(taps=None, tapped=None)
    with pytest.raises(ValueError, match="protect=2.0 needs to see.*protect=0"):
        hf.dihyfo(blind, network, params, protect=2.0)
    hf.dihyfo(blind, network, params)
    with pytest.raises(TypeError, match="params must be .*fit_hypernetwork"):
        hf.dihyfo(classifier, network, network)


def test_nothing_learnt_or_given_is_a_constant_of_the_program():
    probe = worlds.probe()
    _, unlearner, _, state = prepared(probe=probe, best_of=2)
    lowered = jax.jit(unlearner.unlearn).lower(jax.random.key(0), state, ask(1))
    shapes = re.findall(r"constant dense.*: tensor<((?:\d+x)*)\w+>", lowered.as_text())
    assert shapes
    sizes = [math.prod(map(int, shape.split("x")[:-1])) for shape in shapes]
    # Frequencies of time and tables of a few numbers, but no weights and no rows.
    assert max(sizes) <= 32 < min(leaf.size for leaf in probe)


def test_unlearn_reads_parameters_and_probe_from_the_state():
    network, params, _ = worlds.fitted("edit")
    other = params._replace(
        weights=jax.tree.map(lambda leaf: 1.5 * leaf, params.weights)
    )
    probe = worlds.probe()
    half = probe._replace(weight=probe.weight * (jnp.arange(40) < 20))
    answers = []
    for own, rows in ((params, probe), (other, half)):
        options = dict(probe=rows, best_of=3, steps=2)
        unlearner = hf.dihyfo(worlds.CLASSIFIER, network, own, **options)
        state = prepared(**options)[3]
        state = state._replace(hypernet_params=other, probe=half)
        answers.append(unlearner.unlearn(jax.random.key(1), state, ask(1)))
    chex.assert_trees_all_equal(*answers)
