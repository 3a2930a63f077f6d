"""Relearning steps counted against a NumPy loop and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperforget_jax.base import Classifier, Examples
from hyperforget_jax.metrics import first_reached, relearn, relearning_curve

KEY = jax.random.key(7)


def full_batch_steps(variables, examples, target, learning_rate):
    """Gradient descent on softmax regression in float64, until accurate enough."""
    weight = np.asarray(variables["params"]["weight"], np.float64)
    bias = np.asarray(variables["params"]["bias"], np.float64)
    x, y = np.asarray(examples.x, np.float64), np.asarray(examples.y)
    for step in range(101):
        logits = x @ weight + bias
        if np.mean(logits.argmax(-1) == y) >= target:
            return step
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
        residual = exponentials / exponentials.sum(-1, keepdims=True)
        residual[np.arange(y.size), y] -= 1
        weight = weight - learning_rate * x.T @ residual / y.size
        bias = bias - learning_rate * residual.mean(0)
    return 101


@pytest.mark.parametrize("target", [0.5, 0.7, 0.8])
@pytest.mark.parametrize("jit", [True, False])
def test_steps_equal_a_numpy_loop(linear, make_variables, make_examples, target, jit):
    variables, forget = make_variables(3), make_examples(0, 60)
    expected = full_batch_steps(variables, forget, target, 0.02)

    def run(variables, forget, target):
        return relearn(
            linear,
            variables,
            forget,
            target_accuracy=target,
            key=KEY,
            # The whole set every step, so that its order does not matter.
            batch_size=60,
            optimizer=optax.sgd(0.02),
        )

    got = (jax.jit(run) if jit else run)(variables, forget, target)
    assert expected > 1
    assert int(got.steps) == expected
    assert not got.censored


def one_hot_problem(num_rows):
    """A table look-up: a row is known exactly from the first step that contains it."""
    classifier = Classifier(None, lambda v, x: x @ v["params"], None)
    variables = {"params": jnp.zeros((num_rows, 2)).at[:, 0].set(1e-3)}
    ones = jnp.ones(num_rows, jnp.int32)
    ids = jnp.arange(num_rows, dtype=jnp.int32)
    forget = Examples(jnp.eye(num_rows), ones, ones, ids)
    return classifier, variables, forget


@pytest.mark.slow
@pytest.mark.parametrize(
    "batch_size, steps", [(1, 10), (3, 4), (5, 2), (10, 1), (64, 1)]
)
def test_every_row_is_seen_once_before_any_is_seen_again(batch_size, steps):
    classifier, variables, forget = one_hot_problem(10)
    got = relearn(
        classifier,
        variables,
        forget,
        target_accuracy=1.0,
        key=KEY,
        batch_size=batch_size,
        optimizer=optax.sgd(100.0),
    )
    assert (int(got.steps), bool(got.censored)) == (steps, False)


def test_weightless_rows_are_neither_learned_from_nor_counted():
    classifier, variables, forget = one_hot_problem(10)
    weight = forget.weight.at[4:].set(0)
    noise = jnp.where((weight == 0)[:, None], 1e3, forget.x)
    results = [
        relearn(
            classifier,
            variables,
            Examples(x, forget.y, weight, forget.id),
            target_accuracy=1.0,
            key=KEY,
            batch_size=1,
            optimizer=optax.sgd(100.0),
        )
        for x in (forget.x, noise)
    ]
    # Four active rows, one a step.
    assert [int(result.steps) for result in results] == [4, 4]


@pytest.mark.slow
def test_padding_and_place_in_the_table_change_nothing(
    linear, make_variables, make_examples
):
    variables, forget = make_variables(3), make_examples(0, 40)
    padded = forget.take(jnp.concatenate([jnp.arange(40)[::-1], jnp.full(24, 40)]))
    straight, shuffled = (
        relearn(
            linear,
            variables,
            examples,
            target_accuracy=0.8,
            key=KEY,
            batch_size=8,
            optimizer=optax.sgd(0.1),
        )
        for examples in (forget, padded)
    )
    assert 1 < int(straight.steps) < 100
    assert int(straight.steps) == int(shuffled.steps)


def test_no_steps_if_already_there(linear, make_variables, make_examples):
    got = relearn(
        linear,
        make_variables(0),
        make_examples(0, 40),
        target_accuracy=0.0,
        key=KEY,
    )
    assert (int(got.steps), bool(got.censored)) == (0, False)


def test_censored_at_the_cap(linear, make_variables, make_examples):
    got = relearn(
        linear,
        make_variables(0),
        make_examples(0, 40),
        target_accuracy=1.0,
        key=KEY,
        cap=3,
        optimizer=optax.sgd(0.0),
    )
    assert (int(got.steps), bool(got.censored)) == (3, True)


def test_reached_at_the_cap_is_not_censored():
    classifier, variables, forget = one_hot_problem(10)
    options = {"target_accuracy": 1.0, "key": KEY, "batch_size": 1}
    optimizer = optax.sgd(100.0)
    for cap, censored in ((9, True), (10, False)):
        got = relearn(
            classifier, variables, forget, **options, cap=cap, optimizer=optimizer
        )
        assert (int(got.steps), bool(got.censored)) == (cap, censored)


def test_the_attacker_drops_an_output_mask(linear, make_variables, make_examples):
    forget, options = make_examples(0, 40), {"target_accuracy": 0.8, "key": KEY}
    options["optimizer"] = optax.sgd(0.02)
    bare = make_variables(3)
    masked = {**bare, "output_mask": jnp.array([True, True, True, False])}
    assert np.mean(linear.apply(masked, forget.x).argmax(-1) == 3) == 1
    expected = relearn(linear, bare, forget, **options)
    got = relearn(linear, masked, forget, **options)
    assert not got.censored
    assert int(got.steps) == int(expected.steps)


@pytest.mark.slow
def test_only_parameters_are_tuned():
    def apply(variables, x):
        return x @ variables["params"] + variables["batch_stats"]

    classifier = Classifier(None, apply, None)
    _, variables, forget = one_hot_problem(4)
    # With the statistics fixed, no parameter can be learned from zero inputs.
    variables["batch_stats"] = jnp.zeros((1, 2)).at[0, 0].set(1.0)
    got = relearn(
        classifier,
        variables,
        forget._replace(x=jnp.zeros((4, 4))),
        target_accuracy=1.0,
        key=KEY,
        cap=5,
    )
    assert bool(got.censored)


@pytest.mark.slow
def test_a_population_equals_a_loop(linear, make_variables, make_examples):
    forget = make_examples(0, 40)

    def steps(variables):
        return relearn(
            linear,
            variables,
            forget,
            target_accuracy=0.8,
            key=KEY,
            batch_size=8,
            cap=20,
            optimizer=optax.sgd(0.1),
        )

    seeds = list(range(6))
    together = jax.jit(jax.vmap(steps))(make_variables(seeds))
    alone = [steps(make_variables(seed)) for seed in seeds]
    np.testing.assert_array_equal(together.steps, [int(one.steps) for one in alone])
    np.testing.assert_array_equal(together.censored, [one.censored for one in alone])
    # Members stop at different steps, or the test would show nothing.
    assert len(set(together.steps.tolist())) > 1


@pytest.mark.slow
def test_a_curve_tells_the_steps_to_every_target(linear, make_variables, make_examples):
    forget = make_examples(0, 40)
    options = {"key": KEY, "batch_size": 8, "cap": 20, "optimizer": optax.sgd(0.1)}
    targets = jnp.linspace(0, 1, 11)

    def of_one(variables):
        curve = relearning_curve(linear, variables, forget, **options)
        return curve, jax.vmap(first_reached, (None, 0))(curve, targets)

    def alone(variables, target):
        return relearn(linear, variables, forget, target_accuracy=target, **options)

    found = []
    for seed in range(3):
        variables = make_variables(seed)
        curve, together = jax.jit(of_one)(variables)
        assert curve.shape == (21,)
        expected = jax.jit(jax.vmap(alone, (None, 0)))(variables, targets)
        np.testing.assert_array_equal(together.steps, expected.steps)
        np.testing.assert_array_equal(together.censored, expected.censored)
        found += np.asarray(together.steps).tolist()
    # At once, on the way, and never.
    assert 0 in found and 20 in found and len(set(found)) > 4
