"""Rules: presets, what they refuse, and what folding and renewing mean."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import inheritance
from hyperforget_jax.inheritance import Head, Impression, Rule, rule, update

HEAD = Head("Dense_0", (0, 1, 2, 3))
RANDOM = np.random.default_rng(2)
# Four classes of five features: class 1 is asked for, its examples resemble class 2.
VARIABLES = {
    "params": {
        "Dense_0": {
            "kernel": np.float32(RANDOM.normal(size=(5, 4))),
            "bias": np.float32(RANDOM.normal(size=4)),
        }
    },
    "output_mask": np.zeros(4, bool),
}
FRESH = jax.tree.map(
    lambda leaf: np.float32(RANDOM.normal(size=leaf.shape)), VARIABLES["params"]
)
MODEL = hf.from_linen(hf.models.MLP((), 4))


def centred():
    """Kernel and bias of the head, less their means over classes, float64."""
    own = VARIABLES["params"]["Dense_0"]
    return tuple(
        np.float64(leaf) - np.float64(leaf).mean(axis=-1, keepdims=True)
        for leaf in (own["kernel"], own["bias"])
    )


def centred_among(left):
    """Kernel and bias of the head, less their means over the classes that are left."""
    own = VARIABLES["params"]["Dense_0"]
    return tuple(
        np.float64(leaf) - np.float64(leaf)[..., left].mean(axis=-1, keepdims=True)
        for leaf in (own["kernel"], own["bias"])
    )


def impression(level, sign=1.0, asked=(1,)):
    """What a root says of class 1: its features are those that the class looks for."""
    kernel, bias = centred()
    classes = np.isin(np.arange(4), asked)
    answers, features = np.zeros((4, 4)), np.zeros((4, 5))
    answers[1] = [0.2, 0.0, 0.7, 0.1]
    features[1] = sign * kernel[:, 1]
    levels = np.zeros(4)
    levels[1] = level
    mass = np.where(classes, 6.0, 0.0)
    parts = (mass, answers, features, levels)
    return Impression(
        None, jnp.asarray(classes), *(jnp.asarray(part, jnp.float32) for part in parts)
    )


def known(sign=1.0):
    """The model's own centred logit of class 1 on those features."""
    kernel, bias = centred()
    return sign * kernel[:, 1] @ kernel[:, 1] + bias[1]


apply = jax.jit(lambda found, how: update(VARIABLES, None, found, FRESH, how, HEAD))


def test_presets_are_what_they_are_said_to_be():
    assert rule() == rule("folded") == inheritance.PRESETS["folded"]
    published = rule("published")
    assert published.estimator == "batch_gradient" and published.scope == "head"
    assert published.alpha == published.strength == 1
    assert not (published.shares or published.match or published.centre)
    preset = inheritance.PRESETS["repaired"]
    repaired = rule("repaired", alpha=0.9, merge="sum")
    assert repaired == dataclasses.replace(preset, alpha=0.9, merge="sum") != preset
    assert repaired.scope == "all" and repaired.only_columns and not repaired.renew
    assert rule("folded").renew and rule("folded").scope == "none"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preset": "fixed"}, ValueError, "preset must be one of .*'published'.*'fix"),
        ({"scope": "tail"}, ValueError, "scope must be one of .*got 'tail'"),
        ({"estimator": "exact"}, ValueError, "estimator must be one of .*got 'exact'"),
        ({"merge": "min"}, ValueError, "merge must be one of .*got 'min'"),
        ({"fold": -0.1}, ValueError, "fold must not be negative, got fold=-0.1"),
        ({"fold": float("nan")}, ValueError, "fold must not be negative"),
        ({"beta": 1}, TypeError, "beta"),
        (
            {"preset": "repaired", "estimator": "batch_gradient"},
            ValueError,
            "shares=True needs estimator='per_example'",
        ),
        *[
            ({name: value}, ValueError, f"{name} must be positive, got {name}={value}")
            for name in ("alpha", "strength", "deep_alpha", "deep_strength")
            for value in (0, -1.0)
        ],
        ({"alpha": float("nan")}, ValueError, "alpha must be positive"),
        ({"batch_size": 0}, ValueError, "batch_size must be positive"),
    ],
    ids=str,
)
def test_malformed_rules_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        rule(**options)


def test_numbers_are_leaves_and_choices_are_not():
    made = rule("repaired", alpha=0.125, fold=0.5)
    numbers = ("alpha", "strength", "deep_alpha", "deep_strength", "fold")
    for name in numbers:
        doubled = jax.tree.map(lambda leaf: 2 * leaf, made)
        assert getattr(doubled, name) == 2 * getattr(made, name)
    assert jax.tree.structure(rule("repaired")) == jax.tree.structure(
        rule("repaired", alpha=2.0, strength=0.1)
    )
    assert jax.tree.structure(rule("repaired")) != jax.tree.structure(
        rule("repaired", scope="head")
    )
    assert isinstance(jax.tree.map(lambda leaf: 2 * leaf, rule()), Rule)


def test_a_sweep_over_numbers_is_a_vmap():
    found = impression(known())
    folds = jnp.array([0.1, 0.3, 2.0])

    def answer(fold):
        return apply(found, rule("folded", fold=fold, renew=False))

    together = jax.vmap(answer)(folds)
    for place, fold in enumerate(folds):
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, at=place: leaf[at], together),
            answer(fold),
            rtol=1e-5,
            atol=1e-6,
        )
    kernels = together[0]["params"]["Dense_0"]["kernel"]
    assert (kernels[0] != kernels[1]).any() and (kernels[1] != kernels[2]).any()


@pytest.mark.parametrize("share", [1.0, 0.4, 1.7])
def test_folding_adds_the_column_to_those_that_are_resembled(share):
    """NumPy, from the definition; ``share`` is how well the root knew the class."""
    kernel, bias = centred()
    changed, info = apply(
        impression(known() / share), rule("folded", fold=0.3, renew=False)
    )
    held = min(share, 1)
    # The requested class is not answered, and what is left sums to one already.
    answers = np.array([0.2, 0.0, 0.7, 0.1])
    got = changed["params"]["Dense_0"]
    # A handful of float32 operations.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    base, shift = centred_among([0, 2, 3])
    close(got["kernel"], base + 0.3 * held * np.outer(kernel[:, 1], answers))
    close(got["bias"], shift + 0.3 * held * bias[1] * answers)
    close(info.held, [0, held, 0, 0])
    assert info.dampened == 0


def test_answers_are_shared_among_classes_that_stay():
    """Class 2 is asked for too: what resembled it goes to the others in proportion."""
    kernel, base = centred()[0], centred_among([0, 3])[0]
    found = impression(known(), asked=(1, 2))
    changed, _ = apply(found, rule("folded", fold=1.0, renew=False))
    answers = np.array([0.2, 0.0, 0.0, 0.1]) / 0.3
    np.testing.assert_allclose(
        changed["params"]["Dense_0"]["kernel"],
        base + np.outer(kernel[:, 1], answers),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(("level", "sign"), [(3.0, -1.0), (-2.0, 1.0), (0.0, 1.0)])
def test_nothing_is_folded_where_the_class_is_not_held(level, sign):
    """A negative logit at the model, or a root that did not know the class itself."""
    assert sign > 0 or known(sign) < 0
    kernel, bias = centred_among([0, 2, 3])
    changed, info = apply(impression(level, sign), rule("folded", fold=9, renew=False))
    assert not info.held.any()
    got = changed["params"]["Dense_0"]
    np.testing.assert_allclose(got["kernel"], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["bias"], bias, rtol=1e-5, atol=1e-6)


def test_renewing_alone_is_a_mask_with_a_fresh_column_behind():
    changed, _ = apply(impression(known()), rule("folded", fold=0.0))
    assert changed["output_mask"].tolist() == [False, True, False, False]
    x = jnp.float32(RANDOM.normal(size=(30, 5)))
    masked = {**VARIABLES, "output_mask": changed["output_mask"]}
    # Centring moves all logits alike, in float32.
    np.testing.assert_allclose(
        jax.nn.softmax(MODEL.apply(changed, x)),
        jax.nn.softmax(MODEL.apply(masked, x)),
        rtol=1e-5,
        atol=1e-7,
    )
    got, fresh = changed["params"]["Dense_0"], FRESH["Dense_0"]
    np.testing.assert_array_equal(got["kernel"][:, 1], fresh["kernel"][:, 1])
    np.testing.assert_array_equal(got["bias"][1], fresh["bias"][1])
    others = np.arange(4) != 1
    assert (got["kernel"][:, others] != fresh["kernel"][:, others]).all()


def test_masks_that_were_there_stay_and_inputs_are_not_altered():
    before = {**VARIABLES, "output_mask": np.array([False, False, False, True])}
    copy = jax.tree.map(np.array, before)
    changed, _ = update(before, None, impression(known()), FRESH, rule(), HEAD)
    assert changed["output_mask"].tolist() == [False, True, False, True]
    chex.assert_trees_all_equal(before, copy)


def test_fresh_columns_are_drawn_from_the_key():
    data = hf.data.examples(
        np.float32(RANDOM.normal(size=(40, 5))), np.int32(np.arange(40) % 4)
    )
    unlearner = hf.fiun(MODEL, "folded")
    state = unlearner.init(jax.random.key(0), VARIABLES, data)
    answer = jax.jit(unlearner.unlearn)
    request = hf.forget_classes(data, [1])
    one, other = (
        answer(jax.random.key(seed), state, request)[0].variables["params"]["Dense_0"]
        for seed in (1, 2)
    )
    assert (one["kernel"][:, 1] != other["kernel"][:, 1]).all()
    kept = jnp.array([0, 2, 3])
    np.testing.assert_array_equal(one["kernel"][:, kept], other["kernel"][:, kept])
