"""Units are found again, and a population of one network becomes one network."""

import functools
import itertools

import chex
import jax
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet, trees
from hyperforget_jax.hypernet import matching

X = jax.ShapeDtypeStruct((1, 20), np.float32)


@functools.cache
def network(*features):
    """A perceptron, its tokenizer and random parameters."""
    classifier = hf.from_linen(hf.models.MLP(features, 3))
    shapes = jax.eval_shape(classifier.init, jax.random.key(0), X)
    tokenizer = hypernet.unit_tokens(classifier, shapes, X)
    return classifier, tokenizer, draw(shapes["params"], 0)


def draw(shapes, seed, *stack):
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: np.float32(random.normal(size=(*stack, *leaf.shape))), shapes
    )


def shuffled_copies(features, members, noise):
    """Noisy copies of one network in random orders, the orders, and the copies."""
    _, tokenizer, params = network(*features)
    random = np.random.default_rng(1)
    copies = jax.tree.map(
        lambda leaf, deviation: leaf + noise * deviation,
        params,
        draw(params, 2, members),
    )
    orders = tuple(
        np.stack([random.permutation(units) for _ in range(members)])
        for units in tokenizer.hidden
    )
    return matching.permute_all(tokenizer, copies, orders), orders, copies


def match(tokenizer, params, reference):
    """Match one network; return it, and its permutations."""
    stacked = jax.tree.map(lambda leaf: leaf[None], params)
    return trees.take(matching.match(tokenizer, stacked, reference), 0)


def variance(params):
    return sum(np.sum(np.var(leaf, axis=0)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("features", [(7,), (7, 6), (5, 6, 4)])
def test_a_permutation_is_undone(features):
    _, tokenizer, params = network(*features)
    random, permute = np.random.default_rng(0), jax.jit(tokenizer.permute)
    for _ in range(5):
        orders = tuple(random.permutation(units) for units in features)
        permuted = permute(params, orders)
        matched, found = match(tokenizer, permuted, params)
        chex.assert_trees_all_equal(found, tuple(map(np.argsort, orders)))
        chex.assert_trees_all_equal(permute(permuted, found), params)
        chex.assert_trees_all_equal(matched, params)


def test_a_network_of_one_hidden_layer_is_matched_best():
    """Better than by all 24 orders of its units no network can be matched."""
    _, tokenizer, reference = network(4)
    permute = jax.jit(tokenizer.permute)

    def cost(params):
        pairs = zip(*map(jax.tree.leaves, (params, reference)), strict=True)
        return sum(np.sum(np.square(np.float64(a) - np.float64(b))) for a, b in pairs)

    for seed in range(1, 5):
        params = draw(reference, seed)
        costs = [
            cost(permute(params, (np.array(order),)))
            for order in itertools.permutations(range(4))
        ]
        matched, _ = match(tokenizer, params, reference)
        np.testing.assert_allclose(cost(matched), min(costs), rtol=1e-12)


def test_matching_never_leads_away():
    """With several hidden layers it may end at a local optimum, never above."""
    _, tokenizer, reference = network(5, 6, 4)
    for seed in range(1, 4):
        params = draw(reference, seed)
        matched, _ = match(tokenizer, params, reference)
        before, after = (
            variance(jax.tree.map(lambda *both: np.stack(both), network, reference))
            for network in (params, matched)
        )
        assert after < before


def test_units_that_are_alike_stay():
    _, tokenizer, params = network(7)
    alike = jax.tree.map(np.ones_like, params)
    _, (order,) = match(tokenizer, alike, params)
    np.testing.assert_array_equal(order, np.arange(7))


@pytest.mark.parametrize("features", [(7,), (7, 6)])
def test_copies_of_one_network_become_alike(features):
    classifier, tokenizer, _ = network(*features)
    population, orders, copies = shuffled_copies(features, 6, 0.1)
    canonical, found, moved = matching.canonicalise(tokenizer, population)
    assert moved.shape == (4,) and moved[0] > 0.5
    np.testing.assert_array_equal(moved[1:], 0)
    np.testing.assert_allclose(variance(canonical), variance(copies), rtol=1e-4)
    assert variance(canonical) < variance(population) / 10

    # All are in the order of member 0, and what was found leads there.
    for order, back in zip(orders, found, strict=True):
        assert back.shape == order.shape and back.dtype == np.int64
        np.testing.assert_array_equal(
            np.take_along_axis(order, back, axis=1), np.tile(order[0], (6, 1))
        )
    chex.assert_trees_all_equal(
        matching.permute_all(tokenizer, population, found), canonical
    )
    x = np.float32(np.random.default_rng(3).normal(size=(5, 20)))
    apply = jax.jit(jax.vmap(lambda params: classifier.apply({"params": params}, x)))
    np.testing.assert_allclose(
        apply(canonical), apply(population), rtol=1e-4, atol=1e-4
    )


def test_rounds_compose():
    """Of networks that have little in common, some units move in later rounds."""
    _, tokenizer, params = network(7, 6)
    population = draw(params, 3, 24)
    canonical, found, moved = matching.canonicalise(tokenizer, population, rounds=10)
    assert moved[0] > 0 and moved[1] > 0
    assert moved[-1] == 0 and variance(canonical) < variance(population)
    chex.assert_trees_all_equal(
        matching.permute_all(tokenizer, population, found), canonical
    )


def test_checkpoints_are_permuted_as_their_run():
    _, tokenizer, params = network(7, 6)
    population, orders, _ = shuffled_copies((7, 6), 4, 0.1)
    checkpoints = jax.tree.map(
        lambda leaf: np.stack([leaf, -np.asarray(leaf)], 1), population
    )
    got = matching.permute_all(tokenizer, checkpoints, orders)
    chex.assert_trees_all_equal_shapes(got, checkpoints)
    permute = jax.jit(tokenizer.permute)
    for member in range(4):
        own, permuted = (
            jax.tree.map(lambda leaf, m=member: leaf[m], tree)
            for tree in (checkpoints, got)
        )
        for checkpoint in range(2):
            expected, one = (
                jax.tree.map(lambda leaf, k=checkpoint: leaf[k], tree)
                for tree in (own, permuted)
            )
            expected = permute(expected, tuple(order[member] for order in orders))
            chex.assert_trees_all_equal(one, expected)


def test_without_hidden_layers_nothing_moves():
    _, tokenizer, params = network()
    assert match(tokenizer, params, params)[1] == ()
    population = draw(params, 1, 3)
    canonical, found, moved = matching.canonicalise(tokenizer, population)
    chex.assert_trees_all_equal(canonical, population)
    assert found == () and not moved.any()


def test_chunks_cannot_be_matched():
    _, _, params = network(7)
    chunks = hypernet.chunk_tokens(params)
    for call in (
        lambda: matching.match(chunks, params, params),
        lambda: matching.canonicalise(chunks, params),
        lambda: matching.permute_all(chunks, params, ()),
    ):
        with pytest.raises(ValueError, match="must be of kind 'units', got 'chunks'"):
            call()
    with pytest.raises(ValueError, match="rounds must be positive, got rounds=0"):
        matching.canonicalise(network(7)[1], params, rounds=0)


def test_networks_that_are_not_finite_are_named():
    _, tokenizer, params = network(7)
    population = draw(params, 1, 3)
    population["Dense_0"]["kernel"][2, 0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite .* those of member 2"):
        matching.canonicalise(tokenizer, population)
