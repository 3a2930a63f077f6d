"""FIUn on one model: by hand, as a graph of one node, and request after request."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import inheritance, trees
from tests import toys

BATCH = 8
KEY = jax.random.key(3)


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    fit = jax.jit(
        lambda key: hf.fit(key, classifier, data, optax.adam(3e-2), 40, batch_size=16)
    )
    return data, classifier, fit(jax.random.key(0))


def config(preset, **changes):
    changes = {"batch_size": BATCH, **changes}
    return dataclasses.replace(hf.fisher.PRESETS[preset], **changes)


@functools.cache
def prepared(preset, **changes):
    """``(jitted unlearn, state)``."""
    data, classifier, variables = world()
    unlearner = hf.fiun(classifier, config(preset, **changes))
    state = jax.jit(unlearner.init)(jax.random.key(1), variables, data)
    return jax.jit(unlearner.unlearn), state


def test_the_published_rule_is_one_fisher_dampened_by_another():
    data, classifier, variables = world()
    unlearn, state = prepared("published")
    request = hf.forget_classes(data, [1])

    @jax.jit
    def by_hand(variables, data, forget):
        whole, share = (
            hf.fisher.diagonal(
                classifier,
                variables,
                part,
                estimator="batch_gradient",
                batch_size=BATCH,
                scope=("Dense_1",),
            )
            for part in (data, forget)
        )
        changed = hf.fisher.dampen(
            variables["params"], share, whole, alpha=1.0, strength=1.0
        )
        return whole, share, *changed

    whole, share, expected, selected = by_hand(variables, data, request.forget)
    after, info = unlearn(KEY, state, request)
    assert 0 < selected < 1 and info.dampened == selected
    # The same float32 numbers from another compilation.
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-7)
    close(after.variables["params"], expected)
    close(state.fisher, whole)
    assert "Dense_0" not in state.fisher.values
    left = hf.fisher.without(whole, share, request.forget.weight)
    close(after.fisher, left)
    assert (state.fisher.total_weight, after.fisher.total_weight) == (5, 5 - 10 / BATCH)


@pytest.mark.parametrize("preset", hf.fisher.PRESETS)
def test_a_graph_of_one_node_forgets_alike(preset):
    data, classifier, variables = world()
    plan = inheritance.Plan.create(data, {"a": np.ones(40, bool)})
    unlearner = inheritance.fiun(plan.graph, classifier, config(preset))
    stacked = {"default": trees.stack([variables])}
    state = jax.jit(unlearner.init)(KEY, stacked, plan.data(data))
    unlearn_alone, alone = prepared(preset)
    unlearn = jax.jit(unlearner.unlearn)
    # The Fisher that is left from the first request decides on the second.
    for label in (2, 0):
        request = hf.forget_classes(data, [label], num_classes=4)
        state, infos = unlearn(KEY, state, {"a": request})
        # The key that the graph gives to its first node.
        key = jax.random.split(jax.random.fold_in(KEY, 0), 1)[0]
        alone, info = unlearn_alone(key, alone, request)
        # Batched products sum in another order.
        got = plan.graph.take(state.variables, "a")
        chex.assert_trees_all_close(got, alone.variables, rtol=1e-4, atol=1e-6)
        dampened = infos.update["default"].dampened[0]
        np.testing.assert_allclose(dampened, info.dampened, rtol=1e-6)
        assert (state.fisher is None) == (alone.fisher is None)
        if alone.fisher is not None:
            got = plan.graph.take(state.fisher, "a")
            # A difference of sums is as near as the sums.
            chex.assert_trees_all_close(got, alone.fisher, rtol=1e-3, atol=1e-7)
        np.testing.assert_array_equal(state.forgotten.gone[0], alone.forgotten.gone)


def test_the_fisher_shrinks_with_every_request():
    data, _, _ = world()
    unlearn, state = prepared("repaired", alpha=0.1)
    traces = [state.fisher]
    for label, left in ((1, 30), (3, 20)):
        request = hf.forget_classes(data, [label], num_classes=4)
        state, _ = unlearn(KEY, state, request)
        assert state.fisher.total_weight == left
        data = request.retain
        traces.append(state.fisher)
    sums = [
        sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(each.values))
        * each.total_weight
        for each in traces
    ]
    assert sums[0] > sums[1] > sums[2] >= 0


def test_a_sweep_over_alpha_is_a_vmap():
    data, classifier, _ = world()
    _, state = prepared("repaired")
    request = hf.forget_classes(data, [1])

    @jax.jit
    def answer(alpha):
        how = config("repaired", alpha=alpha, deep_alpha=alpha)
        unlearner = hf.fiun(classifier, how)
        after, info = unlearner.unlearn(KEY, state, request)
        return after.variables, info

    alphas = jnp.array([0.01, 0.3, 0.99])
    together = jax.jit(jax.vmap(answer))(alphas)
    assert (jnp.diff(together[1].dampened) < 0).all()
    for place, alpha in enumerate(alphas):
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, at=place: leaf[at], together),
            answer(alpha),
            rtol=1e-4,
            atol=1e-6,
        )


def test_head_reassignment_forgets_a_class_and_keeps_its_layers():
    data, classifier, variables = world()
    unlearn, state = prepared("head_reassign")
    after, info = unlearn(KEY, state, hf.forget_classes(data, [1]))
    found = np.asarray(classifier.apply(after.variables, data.x)).argmax(axis=1)
    y = np.asarray(data.y)
    assert not (found == 1).any()
    assert (found == y)[y != 1].mean() > 0.9
    chex.assert_trees_all_equal(
        after.variables["params"]["Dense_0"], variables["params"]["Dense_0"]
    )
    assert info.dampened == 0 and after.fisher is None


def test_what_cannot_be_forgotten_is_refused():
    data, classifier, _ = world()

    def ask(preset, request, **changes):
        # Refused, or warned of, before anything is computed.
        how = dataclasses.replace(hf.fisher.PRESETS[preset], **changes)
        unlearn = hf.fiun(classifier, how).unlearn
        state = prepared(preset)[1]
        jax.eval_shape(lambda state: unlearn(KEY, state, request), state)

    with pytest.raises(ValueError, match="the request is for single rows: use"):
        ask("head_reassign", hf.forget_rows(data, [0, 1]))
    bare = hf.from_functions(
        lambda key, x: {"w": jnp.ones((x.shape[1], 4))}, lambda p, x: x @ p["w"]
    )
    own = bare.init(jax.random.key(0), data.x)
    for preset in hf.fisher.PRESETS:
        with pytest.raises(ValueError, match="no taps.*make it with hf.from_linen"):
            hf.fiun(bare, config(preset)).init(jax.random.key(1), own, data)
    for given in (config, None):
        with pytest.raises(TypeError, match="config must be a hf.FIUnConfig"):
            hf.fiun(classifier, given)
    with pytest.warns(RuntimeWarning, match="alpha=1.5 selects nothing"):
        ask("repaired", hf.forget_classes(data, [1]), alpha=1.5)


def test_presets_go_by_their_names_too():
    classifier = toys.perceptron()
    for name, config in hf.fisher.PRESETS.items():
        assert hf.fisher.as_config(name) == config == hf.fisher.as_config(config)
        assert hf.fiun(classifier, name).access == config.access
    assert hf.fisher.as_config("folded") == hf.FIUnConfig.head_reassign()
    with pytest.raises(ValueError, match="one of .*'head_reassign'.*, got 'best'"):
        hf.fiun(classifier, "best")
    with pytest.raises(TypeError, match="config must be a hf.FIUnConfig"):
        hf.fiun(classifier, 3)
