"""FIUn's config and presets; redistributing and reinitialising columns."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.fisher import (
    PRESETS,
    FIUnConfig,
    ForgetStatistics,
    update,
)
from hyperforget_jax.models.head import Head

PUBLISHED, REPAIRED = FIUnConfig.published(), FIUnConfig()
HEAD_REASSIGN = FIUnConfig.head_reassign()
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


def reassign(**changes):
    return dataclasses.replace(HEAD_REASSIGN, **changes)


def statistics(level, sign=1.0, asked=(1,)):
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
    return ForgetStatistics(
        None, jnp.asarray(classes), *(jnp.asarray(part, jnp.float32) for part in parts)
    )


def known(sign=1.0):
    """The model's own centred logit of class 1 on those features."""
    kernel, bias = centred()
    return sign * kernel[:, 1] @ kernel[:, 1] + bias[1]


@functools.partial(jax.jit, static_argnums=1)
def apply(found, config):
    return update(VARIABLES, None, found, FRESH, config, HEAD)


def test_presets_are_what_they_are_said_to_be():
    assert REPAIRED == FIUnConfig() and set(PRESETS.values()) == {
        PUBLISHED,
        REPAIRED,
        HEAD_REASSIGN,
    }
    assert PUBLISHED.estimator == "batch_gradient" and PUBLISHED.scope == "head"
    assert PUBLISHED.alpha == PUBLISHED.strength == 1
    assert not (PUBLISHED.by_share or PUBLISHED.match_trace or PUBLISHED.centre_head)
    assert REPAIRED.scope == "all" and REPAIRED.columns_only
    assert not REPAIRED.reinitialise and not REPAIRED.redistributes
    assert HEAD_REASSIGN.reinitialise and HEAD_REASSIGN.scope == "none"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scope": "tail"}, ValueError, "scope must be one of .*got 'tail'"),
        ({"estimator": "exact"}, ValueError, "estimator must be one of .*got 'exact'"),
        ({"redistribution": -0.1}, ValueError, "must not be negative.*=-0.1"),
        ({"redistribution": float("nan")}, ValueError, "must not be negative"),
        ({"beta": 1}, TypeError, "beta"),
        ({"scope": "none"}, ValueError, "does nothing: scope='none'"),
        (
            {"estimator": "batch_gradient"},
            ValueError,
            "by_share=True needs estimator='per_example'",
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
def test_malformed_configs_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        FIUnConfig(**options)


def test_a_sweep_over_numbers_is_a_vmap():
    found = statistics(known())
    amounts = jnp.array([0.1, 0.3, 2.0])

    @jax.jit
    def answer(amount):
        config = reassign(redistribution=amount, reinitialise=False)
        return update(VARIABLES, None, found, FRESH, config, HEAD)

    together = jax.vmap(answer)(amounts)
    for place, amount in enumerate(amounts):
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, at=place: leaf[at], together),
            answer(amount),
            rtol=1e-5,
            atol=1e-6,
        )
    kernels = together[0]["params"]["Dense_0"]["kernel"]
    assert (kernels[0] != kernels[1]).any() and (kernels[1] != kernels[2]).any()


@pytest.mark.parametrize("share", [1.0, 0.4, 1.7])
def test_redistribution_adds_the_column_to_those_that_are_resembled(share):
    """NumPy, from the definition; ``share`` is how well the root knew the class."""
    kernel, bias = centred()
    changed, info = apply(
        statistics(known() / share), reassign(redistribution=0.3, reinitialise=False)
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
    found = statistics(known(), asked=(1, 2))
    changed, _ = apply(found, reassign(redistribution=1.0, reinitialise=False))
    answers = np.array([0.2, 0.0, 0.0, 0.1]) / 0.3
    np.testing.assert_allclose(
        changed["params"]["Dense_0"]["kernel"],
        base + np.outer(kernel[:, 1], answers),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(("level", "sign"), [(3.0, -1.0), (-2.0, 1.0), (0.0, 1.0)])
def test_nothing_is_redistributed_where_the_class_is_not_held(level, sign):
    """A negative logit at the model, or a root that did not know the class itself."""
    assert sign > 0 or known(sign) < 0
    kernel, bias = centred_among([0, 2, 3])
    changed, info = apply(
        statistics(level, sign), reassign(redistribution=9, reinitialise=False)
    )
    assert not info.held.any()
    got = changed["params"]["Dense_0"]
    np.testing.assert_allclose(got["kernel"], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["bias"], bias, rtol=1e-5, atol=1e-6)


def test_reinitialising_alone_is_a_mask_with_a_fresh_column_behind():
    changed, _ = apply(statistics(known()), reassign(redistribution=0.0))
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
    changed, _ = update(before, None, statistics(known()), FRESH, HEAD_REASSIGN, HEAD)
    assert changed["output_mask"].tolist() == [False, True, False, True]
    chex.assert_trees_all_equal(before, copy)


def test_fresh_columns_are_drawn_from_the_key():
    data = hf.data.examples(
        np.float32(RANDOM.normal(size=(40, 5))), np.int32(np.arange(40) % 4)
    )
    unlearner = hf.fiun(MODEL, HEAD_REASSIGN)
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
