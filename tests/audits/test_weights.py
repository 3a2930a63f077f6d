"""Audits of weights: a mask hides nothing, and retraining leaves nothing to hide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Ridge

import hyperforget_jax as hf
from hyperforget_jax.audits import (
    draw_by_class,
    few_shot_relearning,
    invert,
    linear_probe,
    recognised,
    weight_audits,
)
from tests import toys

KEY = jax.random.key(3)
CLASSIFIER = toys.perceptron()
FORGOTTEN = 2


@pytest.fixture(scope="module")
def world():
    """A request, other examples of its class, and three populations of three."""
    data = toys.points(400)
    train, test = data.take(jnp.arange(240)), data.take(jnp.arange(240, 400))
    request = hf.forget_classes(train, [FORGOTTEN], num_classes=toys.NUM_CLASSES)
    optimizer = optax.adam(0.05)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def trained(key, data):
        params = CLASSIFIER.init(key, data.x)["params"]

        def loss(params):
            outputs = CLASSIFIER.apply({"params": params}, data.x)
            return hf.metrics.mean_loss(outputs, data.y, data.weight)

        def step(_, carry):
            params, opt_state = carry
            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
            return optax.apply_updates(params, updates), opt_state

        start = params, optimizer.init(params)
        params = jax.lax.fori_loop(0, 150, step, start)[0]
        # Every population has a mask, so that all share their compilations.
        return {"params": params, "output_mask": jnp.zeros(toys.NUM_CLASSES, bool)}

    keys = jax.random.split(jax.random.key(0), (2, 3))
    originals = trained(keys[0], train)
    mask = jnp.broadcast_to(request.classes, (3, toys.NUM_CLASSES))
    models = {
        "original": originals,
        "retrained": trained(keys[1], request.retain),
        "masked": {**originals, "output_mask": mask},
    }
    return models, request, request.split(test)[0]


def test_shots_are_drawn_by_class_and_by_id():
    data = toys.points(40)
    drawn = draw_by_class(KEY, data, 3, 6)
    there = np.asarray(drawn.weight) > 0
    # Four classes have rows, of six.
    np.testing.assert_array_equal(np.bincount(drawn.y[there]), [3, 3, 3, 3])
    ids = np.asarray(drawn.id)[there]
    assert np.unique(ids).size == ids.size
    np.testing.assert_array_equal(drawn.x[there], data.x[ids])
    # Another order of the table, and rows that are absent, draw the same.
    turned = data.take(jnp.concatenate([jnp.arange(40)[::-1], jnp.full(9, 40)]))
    again = draw_by_class(KEY, turned, 3, 6)
    np.testing.assert_array_equal(again.id[there], drawn.id[there])
    # Of a class that has fewer, all of them.
    assert int(draw_by_class(KEY, data, 11, 4).weight.sum()) == 40


def test_a_few_shots_bring_a_masked_class_back_and_no_retrained_one(world):
    models, request, held_out = world
    found = {
        name: few_shot_relearning(
            KEY,
            CLASSIFIER,
            stacked,
            request.forget,
            request.retain,
            held_out,
            shots=1,
            steps=3,
        )
        for name, stacked in models.items()
    }
    assert found["retrained"].shape == (3,)
    assert found["masked"].min() > 0.9 > 0.1 > found["retrained"].max()
    np.testing.assert_array_equal(found["masked"], found["original"])


def test_the_probe_is_a_ridge_regression(world):
    models, request, held_out = world
    found = linear_probe(CLASSIFIER, models["masked"], request.data, held_out)
    there = np.asarray(held_out.weight) > 0

    def features(layer, x):
        return np.maximum(np.asarray(x) @ layer["kernel"] + layer["bias"], 0)

    for model, accuracy in enumerate(found):
        params = jax.tree.map(np.asarray, hf.trees.take(models["masked"], model))
        of = functools.partial(features, params["params"]["Dense_0"])
        own = of(request.data.x)
        spread = np.where(own.std(axis=0) > 0, own.std(axis=0), 1)
        ridge = Ridge(alpha=1e-2 * len(own))
        ridge.fit(own / spread, np.eye(toys.NUM_CLASSES)[request.data.y])
        guesses = ridge.predict(of(held_out.x) / spread).argmax(axis=1)
        assert accuracy == pytest.approx(np.mean(guesses[there] == FORGOTTEN))
    assert found.min() > 0.9


@pytest.mark.slow
def test_the_probe_takes_a_model_with_normalisation():
    classifier, data = toys.normalised(), toys.points(80)
    keys = jax.random.split(KEY, 3)
    fresh = jax.vmap(classifier.init, (0, None))(keys, data.x)
    # Random features of separable clusters; guessing would be a quarter.
    found = linear_probe(classifier, fresh, data, data)
    assert found.shape == (3,) and found.min() > 0.5
    bare = classifier._replace(taps=None, tapped=None)
    with pytest.raises(ValueError, match="has no taps"):
        linear_probe(bare, fresh, data, data)


def test_inversions_are_inputs_of_the_class_to_who_knows_it(world):
    models, request, _ = world
    labels, retain = jnp.full(3, FORGOTTEN), request.retain
    images = {
        name: invert(KEY, CLASSIFIER, models[name], retain, labels)
        for name in ("original", "masked")
    }
    # The attacker undoes the mask.
    np.testing.assert_array_equal(images["masked"], images["original"])
    there = np.asarray(retain.x)[np.asarray(retain.weight) > 0]
    assert there.min() <= images["original"].min()
    assert images["original"].max() <= there.max()
    # More of the class than the mean of the others, where the search began.
    centre = jnp.broadcast_to(there.mean(axis=0), images["original"].shape)
    outputs = jax.vmap(CLASSIFIER.apply)
    before, after = (
        hf.losses.margin(
            outputs(models["original"], x).reshape(9, toys.NUM_CLASSES),
            jnp.full(9, FORGOTTEN),
        )
        for x in (centre, images["original"])
    )
    assert (after > before + 1).all()
    judges = hf.trees.take(models["original"], np.array([1, 2, 0]))
    found = recognised(CLASSIFIER, judges, images["original"], labels)
    np.testing.assert_array_equal(found, 1)
    # And no share of another class.
    found = recognised(CLASSIFIER, judges, images["original"], labels - 1)
    np.testing.assert_array_equal(found, 0)


def test_inputs_without_gradient_are_refused(world):
    models, request, _ = world
    tokens = request.retain._replace(x=jnp.ones((240, 6), jnp.int32))
    with pytest.raises(TypeError, match="must be floating-point .* got int32"):
        invert(KEY, CLASSIFIER, models["original"], tokens, jnp.zeros(1, jnp.int32))


def test_what_does_not_fit_is_refused(world):
    models, request, held_out = world
    with pytest.raises(ValueError, match="must hold retrained models, got original"):
        weight_audits(KEY, CLASSIFIER, {"original": models["original"]}, request)
    one = jax.tree.map(lambda leaf: leaf[0], models["retrained"])
    with pytest.raises(ValueError, match=r"models\['retrained'\] must be stacked"):
        weight_audits(KEY, CLASSIFIER, {**models, "retrained": one}, request)
    with pytest.raises(ValueError, match="held_out must be held out of training"):
        weight_audits(KEY, CLASSIFIER, models, request, request.data)
    spoilt = jax.tree.map(lambda leaf: leaf, models["retrained"])
    bias = spoilt["params"]["Dense_1"]["bias"]
    spoilt["params"]["Dense_1"]["bias"] = bias.at[1, 0].set(jnp.nan)
    with pytest.raises(ValueError, match=r"models\['retrained'\] .* at \[1\]"):
        weight_audits(KEY, CLASSIFIER, {**models, "retrained": spoilt}, request)
    alone = hf.forget_examples(request.forget, num_classes=4)
    with pytest.raises(ValueError, match="those that stay"):
        weight_audits(KEY, CLASSIFIER, models, alone, held_out)


def test_rows_without_a_kind_are_audited_by_rounding_alone(world):
    models, request, _ = world
    rows = hf.forget_rows(request.data, [0, 1, 2], num_classes=toys.NUM_CLASSES)
    found = weight_audits(KEY, CLASSIFIER, models, rows)
    forms = ("", "_bfloat16", "_int8")
    names = {f"forget_{what}{form}" for what in ("accuracy", "phi") for form in forms}
    for each in found.values():
        assert set(each) == names and {len(values) for values in each.values()} == {3}


@pytest.mark.slow
def test_rows_of_a_kind_are_relearned_and_probed_too(world):
    models, request, held_out = world
    rows = jnp.flatnonzero(request.classes[request.data.y])[:5]
    some = hf.forget_rows(request.data, rows, num_classes=toys.NUM_CLASSES)
    found = weight_audits(KEY, CLASSIFIER, models, some, held_out)
    for each in found.values():
        assert {"few_shot_1", "few_shot_10", "probe"} <= set(each)
        assert not {"inversion", "neighbours"} & set(each)
    assert min(found["masked"]["few_shot_1"]) > 0.9


@pytest.mark.slow
def test_a_masked_class_of_digits_is_found_by_all_but_rounding():
    splits = hf.data.load("digits")
    classifier = hf.from_linen(hf.models.MLP((32,)))
    request = hf.forget_classes(splits.train, [9])
    keys = jax.random.split(KEY, 3)
    originals, retrained = (
        hf.fit_population(
            key,
            classifier,
            data,
            members=members,
            optimizer=optax.adam(5e-3),
            steps=200,
            progress=False,
        ).variables
        for key, data, members in (
            (keys[0], splits.train, 12),
            (keys[1], request.retain, 24),
        )
    )
    mask = jnp.broadcast_to(request.classes, (12, 10))
    models = {
        "original": originals,
        "retrained": retrained,
        "masked": {**originals, "output_mask": mask},
    }
    held_out = request.split(splits.test)[0]
    found = weight_audits(keys[2], classifier, models, request, held_out)
    assert {len(values) for values in found["masked"].values()} == {12}
    mean = {
        name: {audit: np.mean(values) for audit, values in each.items()}
        for name, each in found.items()
    }
    masked, original = mean["masked"], mean["original"]
    for form in ("", "_bfloat16", "_int8"):
        assert masked[f"forget_accuracy{form}"] == 0 > 9e3 + masked[f"forget_phi{form}"]
        # Where nothing was forgotten, a step of 1 / 127 changes little.
        assert original[f"forget_accuracy{form}"] > 0.95
    for audit, gap in (
        *((f"few_shot_{shots}", 0.5) for shots in (1, 5, 10)),
        ("probe", 0.02),
        ("inversion", 0.5),
        ("neighbours", 0.2),
    ):
        assert masked[audit] == pytest.approx(original[audit])
        assert masked[audit] > mean["retrained"][audit] + gap
