"""Changes that the data do not notice: projectors, optimisers, coordinates."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import subspace
from hyperforget_jax.subspace.projection import (
    from_coordinates,
    project_gradients,
    scale_by_gram,
    to_coordinates,
)
from tests import toys

# Float32 rounding of a few products of size one.
_ROUNDING = 2e-5


@functools.cache
def _setting():
    """More inputs than rows in every layer: the data leave directions free."""
    data = toys.points(num_rows=8, features=12)
    classifier = hf.from_linen(hf.models.MLP((16, 14), toys.NUM_CLASSES))
    variables = classifier.init(jax.random.key(0), data.x)
    grams = subspace.measure(classifier, variables, data)
    return classifier, variables, data, grams


def _projector(grams, threshold=100.0):
    """Clear of the whole span of the data, but for rounding."""
    spectrum = subspace.decompose(grams)
    kept = {
        path: values > threshold * jnp.finfo(jnp.float32).eps * jnp.max(values)
        for path, values in spectrum.values.items()
    }
    return subspace.null_space(spectrum, kept)


def _project(projector, change):
    return project_gradients(projector).update(change, optax.EmptyState())[0]


def _noise(key, params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )


def _layer_moves(classifier, variables, data, change):
    """What a change does to every layer's outputs on the data, inputs held fixed."""
    taps = classifier.taps(variables, data.x)
    return {
        path: calls[0].input @ change[path]["kernel"] + change[path]["bias"][None]
        for path, calls in taps.items()
    }


class Project(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_symmetric_idempotent_and_of_the_right_trace(self):
        _, variables, _, grams = _setting()
        projector = _projector(grams)
        changes = [_noise(jax.random.key(i), variables["params"]) for i in (1, 2)]
        once = [self.variant(_project)(projector, change) for change in changes]
        twice = _project(projector, once[0])
        chex.assert_trees_all_close(twice, once[0], atol=_ROUNDING)
        dots = [
            optax.tree.vdot(changes[0], once[1]),
            optax.tree.vdot(once[0], changes[1]),
        ]
        np.testing.assert_allclose(*dots, atol=1e-3)
        for path, share in projector.share.items():
            basis = projector.basis[path][0]
            np.testing.assert_allclose(
                np.trace((basis * share[0][None]) @ basis.T), share.sum(), rtol=1e-5
            )

    @chex.variants(with_jit=True, without_jit=True)
    def test_data_do_not_notice_biases_included(self):
        classifier, variables, data, grams = _setting()
        change = self.variant(_project)(
            _projector(grams), _noise(jax.random.key(3), variables["params"])
        )
        moves = _layer_moves(classifier, variables, data, change)
        chex.assert_trees_all_close(
            moves, jax.tree.map(jnp.zeros_like, moves), atol=1e-4
        )
        biases = [layer["bias"] for layer in change.values()]
        assert all(float(jnp.abs(bias).max()) > 1e-2 for bias in biases)


def test_frozen_biases_and_norms_do_not_move():
    data = toys.points()
    classifier = toys.normalised()
    variables = classifier.init(jax.random.key(0), data.x)
    grams = subspace.measure(classifier, variables, data)
    grams = subspace.without_bias(grams, variables["params"])
    spectrum = subspace.decompose(grams)
    kept = subspace.keep(spectrum, "energy", 0.5)
    change = _project(
        subspace.null_space(spectrum, kept),
        _noise(jax.random.key(0), variables["params"]),
    )
    for name, layer in change.items():
        for leaf, value in layer.items():
            assert bool(value.any()) == (leaf == "kernel"), (name, leaf)


CHAINS = {
    "sgd": lambda end: optax.chain(optax.sgd(0.1), end),
    "momentum": lambda end: optax.chain(optax.sgd(0.1, momentum=0.9), end),
    "momentum after": lambda end: optax.chain(end, optax.sgd(0.1, momentum=0.9)),
    "nesterov after": lambda end: optax.chain(
        end, optax.sgd(0.1, momentum=0.9, nesterov=True)
    ),
    "global clip after": lambda end: optax.chain(
        end, optax.clip_by_global_norm(0.1), optax.sgd(0.1)
    ),
    "adam": lambda end: optax.chain(optax.adam(0.01), end),
    "adam between": lambda end: optax.chain(end, optax.adam(0.01), end),
    "adamw": lambda end: optax.chain(optax.adamw(0.01), end),
    "lion": lambda end: optax.chain(optax.lion(0.01), end),
    "value clip": lambda end: optax.chain(optax.clip(0.1), optax.sgd(0.1), end),
}
BROKEN = {
    "adam after": lambda end: optax.chain(end, optax.adam(0.01)),
    "adamw after": lambda end: optax.chain(end, optax.adamw(0.01)),
    "decay after": lambda end: optax.chain(
        end, optax.add_decayed_weights(0.1), optax.sgd(0.1)
    ),
    "value clip after": lambda end: optax.chain(end, optax.clip(0.1), optax.sgd(0.1)),
}


def _taken(chain, steps=20):
    """Twenty steps along random gradients, and how far layer outputs then moved."""
    classifier, variables, data, grams = _setting()
    optimizer = chain(project_gradients(_projector(grams)))
    params = variables["params"]

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(_noise(key, params), state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(5), steps)
    (after, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    change = jax.tree.map(jnp.subtract, after, params)
    moves = _layer_moves(classifier, variables, data, change)
    own = _layer_moves(classifier, variables, data, params)
    norm = optax.tree.norm
    return max(float(norm(moves[path]) / norm(own[path])) for path in moves), float(
        norm(change)
    )


@pytest.mark.parametrize("name", CHAINS)
def test_chains_that_stay_clear(name):
    moved, size = _taken(CHAINS[name])
    assert moved <= _ROUNDING and size > 1e-2


@pytest.mark.parametrize("name", BROKEN)
def test_chains_that_do_not(name):
    moved, _ = _taken(BROKEN[name])
    assert moved > 1e-2


def test_coordinates_stay_clear_under_any_optimizer():
    classifier, variables, data, grams = _setting()
    projector, start = _projector(grams), variables["params"]
    optimizer = optax.chain(optax.clip(0.1), optax.adamw(0.05, weight_decay=0.1))
    b = to_coordinates(projector, start)
    state = optimizer.init(b)
    for key in jax.random.split(jax.random.key(1), 10):
        updates, state = optimizer.update(_noise(key, b), state, b)
        b = optax.apply_updates(b, updates)
    after = from_coordinates(projector, start, b)
    change = jax.tree.map(jnp.subtract, after, start)
    moves = _layer_moves(classifier, variables, data, change)
    chex.assert_trees_all_close(moves, jax.tree.map(jnp.zeros_like, moves), atol=1e-4)
    assert float(optax.tree.norm(change)) > 0.1
    # Zero coordinates are the start.
    zeros = to_coordinates(projector, start)
    chex.assert_trees_all_close(from_coordinates(projector, start, zeros), start)


def test_retained_logits_do_not_move_at_all():
    """Not even to second order: no layer's outputs move, so none's inputs do."""
    classifier, variables, data, grams = _setting()
    change = _project(_projector(grams), _noise(jax.random.key(6), variables["params"]))
    after = jax.tree.map(jnp.add, variables["params"], change)
    moved = classifier.apply({"params": after}, data.x) - classifier.apply(
        variables, data.x
    )
    assert float(jnp.abs(moved).max()) < 1e-4
    others = data.x + 1
    elsewhere = classifier.apply({"params": after}, others) - classifier.apply(
        variables, others
    )
    assert float(jnp.abs(elsewhere).max()) > 1


def test_retained_logits_move_to_second_order_where_one_layer_is_free():
    """Protect what a layer's *gradient* needs alone, and changes meet in products: with
    the first layer free along directions that the second does not read, retained
    logits move with slope two in log-log."""
    keys = jax.random.split(jax.random.key(0), 5)
    x = jax.random.normal(keys[0], (6, 10))
    first, second = (jax.random.normal(k, (12, 12)) for k in keys[1:3])
    # The second layer is blind to half of what the first one gives.
    blind = jnp.arange(12) >= 6
    second = jnp.where(blind[:, None], 0, second)
    up = jnp.where(blind[None, :], jax.random.normal(keys[3], (10, 12)), 0)
    down = _project(
        _projector(
            subspace.Grams(
                {"A": (x @ first[:10]).T @ (x @ first[:10])[None]}, jnp.float32(6)
            )
        ),
        {"A": {"kernel": jax.random.normal(keys[4], (12, 12))}},
    )["A"]["kernel"]
    sizes = np.array([1e-2, 3e-2, 1e-1])
    moved = []
    for size in sizes:
        after = x @ (first[:10] + size * up) @ (second + size * down)
        moved.append(float(jnp.abs(after - x @ first[:10] @ second).max()))
    slope = np.polyfit(np.log(sizes), np.log(moved), 1)[0]
    assert abs(slope - 2) < 0.05


def test_soft_null_space_lets_through_the_less_the_more_a_direction_is_used():
    _, variables, _, grams = _setting()
    spectrum = subspace.decompose(grams)
    for softness in (1e-3, 1.0):
        for path, share in subspace.soft_null_space(spectrum, softness).share.items():
            values = np.asarray(spectrum.values[path], np.float64)
            mu = softness * values.mean()
            np.testing.assert_allclose(share, mu / (values + mu), rtol=1e-5)
            assert (np.diff(share) >= 0).all() and share[0, -1] > 0.99
    change = _noise(jax.random.key(0), variables["params"])
    everything = _project(subspace.soft_null_space(spectrum, 1e6), change)
    chex.assert_trees_all_close(everything, change, atol=1e-3)


def test_least_squares_equals_retraining():
    """Over-parametrised least squares: what retraining from W0 would give is exactly
    the trained part in the retained subspace and W0 elsewhere."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 30)), rng.normal(size=(10, 4))
    start = rng.normal(size=(30, 4)) / 5

    # Gradient descent from W0 ends at the solution nearest to it.
    def trained(x, y):
        return start + np.linalg.pinv(x) @ (y - x @ start)

    retained = x[:7]
    gram = subspace.subtract(
        subspace.Grams({"A": jnp.asarray(x.T @ x, jnp.float32)[None]}, jnp.float32(10)),
        subspace.Grams(
            {"A": jnp.asarray(x[7:].T @ x[7:], jnp.float32)[None]}, jnp.float32(3)
        ),
    )
    projector = _projector(gram)
    params = {"A": {"kernel": jnp.asarray(trained(x, y), jnp.float32)}}
    back = {"A": {"kernel": jnp.asarray(start - trained(x, y), jnp.float32)}}
    answer = optax.apply_updates(params, _project(projector, back))
    np.testing.assert_allclose(
        answer["A"]["kernel"], trained(retained, y[:7]), atol=2e-6
    )


def test_steps_where_nothing_is_left_to_move_are_not_blown_up():
    """Rounding is all the projector there is: dividing by it would be ruin."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(10, 40))
    x = jnp.asarray(rng.normal(size=(60, 10)) @ basis, jnp.float32)
    whole = subspace.Grams({"A": (x.T @ x)[None]}, jnp.float32(60))
    part = subspace.Grams({"A": (x[:8].T @ x[:8])[None]}, jnp.float32(8))
    projector = _projector(whole, threshold=10.0)
    params = {"A": {"kernel": jnp.zeros((40, 3))}}
    chain = optax.chain(scale_by_gram(projector, part), project_gradients(projector))
    gradient = {"A": {"kernel": x[:8].T @ jnp.ones((8, 3)) / 8}}
    update, _ = chain.update(gradient, chain.init(params), params)
    # In units of outputs: next to nothing, of a gradient of size one.
    assert float(jnp.abs(x @ update["A"]["kernel"]).max()) < 1e-2


def test_steps_are_in_units_of_outputs():
    """An example's own projected gradient moves its output by one."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 12)), jnp.float32)
    gram = subspace.Grams({"A": (x.T @ x)[None]}, jnp.float32(1))
    spectrum = subspace.decompose(
        subspace.Grams({"A": jnp.diag(jnp.arange(12.0))[None]}, jnp.float32(1))
    )
    projector = subspace.soft_null_space(spectrum, 1.0)
    chain = optax.chain(scale_by_gram(projector, gram), project_gradients(projector))
    params = {"A": {"kernel": jnp.zeros((12, 2))}}
    gradient = {"A": {"kernel": x.T @ jnp.array([[1.0, -2.0]])}}
    update, _ = chain.update(gradient, chain.init(params), params)
    np.testing.assert_allclose(x @ update["A"]["kernel"], [[1.0, -2.0]], rtol=1e-4)
