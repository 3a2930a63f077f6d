"""Synaptic dampening: a Fisher, the rule, and what is left of the Fisher."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests import toys

ROWS = [0, 4, 8, 30]
NEVER = 1e12


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    return data, classifier, variables


@functools.cache
def fisher_of(estimator="per_example"):
    classifier = toys.perceptron()
    return jax.jit(
        lambda variables, data: hf.fisher.diagonal(
            classifier, variables, data, estimator=estimator, batch_size=8
        )
    )


def answer(request, alpha, **options):
    """``(state before, state after, info)``."""
    data, classifier, variables = world()
    unlearner = hf.ssd(classifier, alpha=alpha, batch_size=8, **options)
    state = unlearner.init(jax.random.key(1), variables, data)
    return state, *unlearner.unlearn(jax.random.key(2), state, request)


def test_is_the_dampening_of_one_fisher_by_the_other():
    data, _, variables = world()
    request = hf.forget_rows(data, ROWS)
    alpha, strength = 2.0, 0.5
    solve = jax.jit(functools.partial(answer, alpha=alpha, strength=strength))
    _, state, info = solve(request)
    whole = fisher_of()(variables, data)
    share = fisher_of()(variables, data.take(jnp.array(ROWS)))
    expected, selected = jax.jit(hf.fisher.dampen)(
        variables["params"], share, whole, alpha=alpha, strength=strength
    )
    assert 0 < selected < 1 and info.dampened == selected
    # The same float32 numbers from another compilation.
    chex.assert_trees_all_close(state.variables["params"], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_fisher_kept_is_that_of_the_retained_data_if_nothing_was_dampened():
    """``n F_D = n_f F_f + n_r F_r`` while the weights stay."""
    data, _, variables = world()
    weighted = data._replace(weight=1 + jnp.arange(40) % 3)
    request = hf.forget_rows(weighted, ROWS)
    _, classifier, _ = world()
    unlearner = hf.ssd(classifier, alpha=NEVER, batch_size=8)

    @jax.jit
    def solve(data, request):
        state = unlearner.init(jax.random.key(1), variables, data)
        return state, *unlearner.unlearn(jax.random.key(2), state, request)

    before, after, info = solve(weighted, request)
    assert info.dampened == 0
    chex.assert_trees_all_equal(after.variables, variables)
    assert before.fisher.total_weight == np.sum(weighted.weight)
    assert after.fisher.total_weight == np.sum(request.retain.weight)
    expected = fisher_of()(variables, request.retain)
    # A tenth of the sum is taken away: nearly all digits of float32 are left.
    chex.assert_trees_all_close(after.fisher, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_sequential_requests_keep_the_account():
    data, classifier, variables = world()
    unlearner = hf.ssd(classifier, alpha=NEVER, batch_size=8)
    requests = hf.sequence(data, [[0, 1], [2, 3], [7, 9]], capacity=4)

    @jax.jit
    def solve(data, requests):
        state = unlearner.init(jax.random.key(1), variables, data)
        keys = jax.random.split(jax.random.key(2), 3)
        return hf.unlearn_sequence(unlearner, keys, state, requests)[0]

    states = solve(data, requests)
    assert states.fisher.total_weight.tolist() == [38, 36, 34]
    left = data.without(jnp.array([0, 1, 2, 3, 7, 9]))
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[-1], states.fisher),
        fisher_of()(variables, left),
        rtol=1e-5,
        atol=1e-9,
    )


@pytest.mark.slow
def test_the_fisher_kept_is_never_negative():
    """A share taken at other weights may exceed what was there at first."""
    data, _, _ = world()
    request = hf.forget_classes(data, [1])

    @jax.jit
    def again(request):
        state, once, _ = answer(request, alpha=0.5, strength=0.1)
        # The same rows once more, out of an account that no longer holds them.
        unlearner = hf.ssd(toys.perceptron(), alpha=0.5, batch_size=8)
        return once, unlearner.unlearn(jax.random.key(3), once, request)[0]

    for state in again(request):
        assert all((leaf >= 0).all() for leaf in jax.tree.leaves(state.fisher.values))
        chex.assert_tree_all_finite(state)


@pytest.mark.slow
def test_batch_gradient_counts_minibatches():
    data, _, variables = world()
    request = hf.forget_rows(data, range(8))
    solve = functools.partial(answer, alpha=NEVER, estimator="batch_gradient")
    before, after, _ = jax.jit(solve)(request)
    chex.assert_trees_all_close(
        before.fisher, fisher_of("batch_gradient")(variables, data), rtol=1e-5
    )
    # Eight forgotten rows are the first of five minibatches: what is left is the rest.
    assert (before.fisher.total_weight, after.fisher.total_weight) == (5, 4)
    rest = data.take(jnp.arange(8, 40))
    chex.assert_trees_all_close(
        after.fisher,
        fisher_of("batch_gradient")(variables, rest),
        rtol=1e-4,
        atol=1e-9,
    )


def test_batch_gradient_counts_rows_whatever_they_weigh():
    data, _, _ = world()
    heavy = data._replace(weight=jnp.full(40, 9, jnp.int32))
    solve = functools.partial(answer, alpha=NEVER, estimator="batch_gradient")
    for weighted in (data, heavy):
        _, after, _ = jax.jit(solve)(hf.forget_rows(weighted, range(6)))
        # Six rows would fill three quarters of one of five minibatches.
        assert after.fisher.total_weight == 4.25


@pytest.mark.slow
def test_a_request_smaller_than_a_minibatch_is_a_share_of_one():
    data, _, variables = world()
    solve = functools.partial(answer, alpha=2.0, estimator="batch_gradient")
    before, after, info = jax.jit(solve)(hf.forget_rows(data, ROWS))
    assert (before.fisher.total_weight, after.fisher.total_weight) == (5, 4.5)
    # One minibatch: the rows asked for, and padding.
    rows = jnp.array([*ROWS, -1, -1, -1, -1])
    share = fisher_of("batch_gradient")(variables, data.take(rows))
    expected, selected = jax.jit(hf.fisher.dampen)(
        variables["params"], share, before.fisher, alpha=2.0, strength=0.3
    )
    assert 0 < selected < 1 and info.dampened == selected
    # The same float32 numbers from another compilation.
    chex.assert_trees_all_close(after.variables["params"], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_sweep_over_alpha_and_strength_is_a_vmap():
    data, _, _ = world()
    request = hf.forget_rows(data, ROWS)
    alphas, strengths = jnp.array([0.5, 2.0, NEVER]), jnp.array([1.0, 0.5, 1.0])
    solve = jax.jit(lambda a, s: answer(request, a, strength=s)[1:])
    states, info = jax.jit(jax.vmap(solve))(alphas, strengths)
    assert (jnp.diff(info.dampened) < 0).all() and info.dampened[-1] == 0
    for index in range(3):
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, at=index: leaf[at], (states, info)),
            solve(alphas[index], strengths[index]),
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("name", ["alpha", "strength", "batch_size"])
def test_hyper_parameters_are_positive(name):
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"{name} must be positive, got {name}="):
            hf.ssd(toys.perceptron(), **{name: value})
    with pytest.raises(TypeError, match=f"{name} must be a"):
        hf.ssd(toys.perceptron(), **{name: "high"})


def test_unknown_estimators_are_refused():
    data, classifier, variables = world()
    unlearner = hf.ssd(classifier, estimator="exact")
    with pytest.raises(ValueError, match="estimator must be one of"):
        unlearner.init(jax.random.key(0), variables, data)


@pytest.mark.slow
def test_the_default_threshold_follows_from_the_request():
    """Fewer rows select fewer parameters, where one fixed threshold selects more."""
    data, classifier = toys.points(400), toys.perceptron()
    keys = jax.random.split(jax.random.key(3), 3)
    variables = hf.fit(keys[0], classifier, data, optax.adam(1e-2), 30)
    requests = [hf.forget_rows(data, list(range(count))) for count in (4, 40)]

    def dampened(unlearner, request):
        state = unlearner.init(keys[1], variables, data)
        return float(unlearner.unlearn(keys[2], state, request)[1].dampened)

    by_default = hf.ssd(classifier)
    few, many = (dampened(by_default, request) for request in requests)
    # One minus the percentile, to within one parameter.
    one = 1 / sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert 0 < few <= np.log1p(1) / 100 + one
    assert few <= many <= np.log1p(10) / 100 + one
    assert dampened(hf.ssd(classifier, alpha=1.0), requests[0]) > 5 * few
