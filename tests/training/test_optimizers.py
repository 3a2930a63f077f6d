"""Optimisers that want more than gradients get it, or are refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.training import loop
from hyperforget_jax.training.fit import training_loss
from hyperforget_jax.training.optimizers import check_optimizer
from tests import toys

KEY, DATA, CLASSIFIER = jax.random.key(0), toys.points(), toys.perceptron()
VARIABLES = CLASSIFIER.init(KEY, DATA.x)
PARAMS = VARIABLES["params"]


def fit(optimizer, steps=40, **options):
    return hf.fit(KEY, CLASSIFIER, DATA, optimizer, steps, batch_size=16, **options)


def loss_of(params, data=DATA):
    logits = CLASSIFIER.apply({"params": params}, data.x)
    return jnp.mean(hf.losses.cross_entropy(logits, data.y))


def test_optimisers_get_the_loss_they_are_asked_to_lower():
    def init(params):
        return jnp.zeros(2)

    def tell(updates, state, params, *, value, grad, value_fn):
        same = sum(
            jnp.abs(one - other).max()
            for one, other in zip(
                jax.tree.leaves(grad), jax.tree.leaves(updates), strict=True
            )
        )
        return updates, jnp.array([value_fn(params) - value, same])

    wants = optax.GradientTransformationExtraArgs(init, tell)
    state, losses = loop.run_steps(
        KEY,
        training_loss(CLASSIFIER),
        loop.init(VARIABLES, wants),
        (DATA,),
        wants,
        steps=1,
        batch_size=40,
    )
    np.testing.assert_allclose(state.opt_state, 0, atol=1e-6)
    # All rows at once: the mean loss is known without the loop.
    np.testing.assert_allclose(losses[0], loss_of(PARAMS), rtol=1e-5)


def test_polyak_steps_are_as_long_as_the_loss_says():
    moved = fit(optax.polyak_sgd(), steps=1, start=VARIABLES)
    # Sixteen of forty rows: which ones is shown by a loop that moves by minus the
    # gradient.
    (small,) = (fit(optax.sgd(1.0), steps=1, start=VARIABLES),)
    gradient, change = (
        np.concatenate(
            [
                np.ravel(leaf)
                for leaf in jax.tree.leaves(
                    jax.tree.map(jnp.subtract, PARAMS, after["params"])
                )
            ]
        )
        for after in (small, moved)
    )
    factor = change @ gradient / (gradient @ gradient)
    np.testing.assert_allclose(change, factor * gradient, atol=1e-6)
    batches = loop.run_steps(
        jax.random.split(KEY)[1],
        training_loss(CLASSIFIER),
        loop.init(VARIABLES, optax.sgd(1.0)),
        (DATA,),
        optax.sgd(1.0),
        steps=1,
        batch_size=16,
    )[1]
    wanted = min(float(batches[0]) / (gradient @ gradient), 1.0)
    np.testing.assert_allclose(factor, wanted, rtol=1e-4)


def test_sharpness_aware_steps_use_the_gradient_at_the_adversary():
    optimizer = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.5), opaque_mode=True)
    moved = hf.fit(KEY, CLASSIFIER, DATA, optimizer, 1, batch_size=40, start=VARIABLES)
    uphill = jax.tree.map(lambda p, g: p + 0.5 * g, PARAMS, jax.grad(loss_of)(PARAMS))
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, jax.grad(loss_of)(uphill))
    for one, other in zip(
        jax.tree.leaves(moved["params"]), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lbfgs(),
        optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau()),
        optax.contrib.muon(1e-2),
        optax.MultiSteps(optax.adam(2e-2), 2).gradient_transformation(),
    ],
    ids=["lbfgs", "reduce_on_plateau", "muon", "multi_steps"],
)
def test_special_optimisers_train(optimizer):
    before, after = loss_of(PARAMS), loss_of(fit(optimizer, start=VARIABLES)["params"])
    assert after < 0.8 * before


def grows(params):
    del params
    return jnp.zeros(2)


CHANGING = optax.GradientTransformation(
    grows, lambda updates, state, params=None: (updates, jnp.concatenate([state] * 2))
)
REFUSED = {
    "no optimiser": ("adam", TypeError, "optimizer must be an optax.*got str"),
    "bare MultiSteps": (
        optax.MultiSteps(optax.adam(1e-2), 2),
        TypeError,
        r"got MultiSteps: give its .gradient_transformation\(\)",
    ),
    "schedule-free": (
        optax.contrib.schedule_free_adamw(1e-2),
        ValueError,
        "optimizer is schedule-free",
    ),
    "schedule-free inside": (
        optax.MultiSteps(
            optax.contrib.schedule_free_adamw(1e-2), 2
        ).gradient_transformation(),
        ValueError,
        "optimizer is schedule-free",
    ),
    "adversary left": (
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1)),
        ValueError,
        "optimizer leaves adversarial.*opaque_mode=True",
    ),
    "lookahead": (
        optax.lookahead(optax.sgd(0.1), 2, 0.5),
        ValueError,
        "optimizer cannot be run",
    ),
    "per example": (
        optax.contrib.dpsgd(0.1, 1.0, 1.0, 0),
        ValueError,
        "optimizer cannot be run",
    ),
    "state that grows": (CHANGING, ValueError, "optimizer must keep the structure"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_loop_cannot_run_is_refused_by_name(name):
    optimizer, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        fit(optimizer)
    with pytest.raises(error, match=message):
        hf.fit_population(
            KEY, CLASSIFIER, DATA, optimizer, 4, members=2, progress=False
        )


@pytest.mark.parametrize(
    "factory",
    [
        lambda optimizer: hf.ascent(CLASSIFIER, optimizer=optimizer),
        lambda optimizer: hf.finetune(CLASSIFIER, optimizer=optimizer),
        lambda optimizer: hf.neggrad_plus(CLASSIFIER, optimizer=optimizer),
        lambda optimizer: hf.retrain(CLASSIFIER, optimizer, 4),
    ],
)
def test_factories_refuse_what_is_no_optimiser(factory):
    with pytest.raises(TypeError, match="optimizer must be an optax"):
        factory("adam")


def test_plain_optimisers_of_every_dtype_pass():
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    for optimizer in (
        optax.sgd(0.1, momentum=0.9),
        optax.adamw(1e-2),
        optax.lion(1e-3),
    ):
        check_optimizer(optimizer, PARAMS)
        check_optimizer(optimizer, halves)


def test_an_optimiser_that_keeps_a_key_trains():
    data, classifier = toys.points(), toys.softmax_regression()
    noisy = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(3)), optax.sgd(0.1))
    variables = hf.fit(jax.random.key(0), classifier, data, noisy, 60, batch_size=16)
    right = jnp.argmax(classifier.apply(variables, data.x), -1) == data.y
    assert right.mean() > 0.9
