"""What the repaired projected-gradient unlearning promises."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import subspace
from tests import toys
from tests.methods.pgu_worlds import (
    KEY,
    OPTIMIZERS,
    STEPWISE,
    answer,
    begun,
    program,
    same,
    wide,
    world,
)

# What is remembered.


def _augment(x, id, number):
    """Of the id and the pass alone, as it must be."""
    shift = jnp.sin(id * 1.7 + number)
    return x + shift.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)


@functools.cache
def _measured(**options):
    _, classifier, variables = world()
    return jax.jit(
        lambda data: subspace.measure(classifier, variables, data, **options)
    )


@pytest.mark.parametrize("augmented", [False, True])
def test_what_is_left_of_the_grams_is_that_of_the_rest(augmented):
    """Request after request, as long as the model stays."""
    data, _, _ = world()
    options = {"augment": _augment, "epochs": 2} if augmented else {}
    state = begun(world, **options)
    first = hf.forget_rows(data, [0, 5, 9], capacity=8)
    second = hf.forget_classes(first.retain, [2], capacity=8)
    still = {"learning_rate": 1e-12, "end_rate": 1e-12}
    gone = set()
    for request in (first, second):
        gone |= {row for row in request.rows.tolist() if row < 32}
        state, info = answer(world, state, request, still, **options)
        expected = _measured(**options)(request.retain)
        assert info.refused == 0
        assert state.store.grams.total_weight == expected.total_weight
        assert expected.total_weight == (32 - len(gone)) * (2 if augmented else 1)
        for path, gram in expected.values.items():
            # Float32 sums, of which some is taken away.
            np.testing.assert_allclose(
                state.store.grams.values[path], gram, atol=1e-5 * np.max(gram)
            )
            assert info.clipped[path] < 1e-5
        same(state.store.included.id, data.id)
        left = [row not in gone for row in range(32)]
        np.testing.assert_array_equal(state.store.included.weight, left)
    assert len(gone) > 8


def test_what_was_forgotten_or_never_there_is_refused():
    data, classifier, _ = world()
    unlearner, state = hf.pgu(classifier), begun(world)
    request = hf.forget_rows(data, [3, 4, 5, 6], capacity=8)
    once, info = answer(world, state, request)
    assert info.refused == 0
    stranger = request._replace(data=data._replace(id=data.id + 1000))
    for before, asked, message in (
        (once, request, "4 of the examples.*ids 3, 4, 5, 6 were taken out before"),
        (state, stranger, "4 of the examples.*ids 1003, 1004.* were never added"),
    ):
        with pytest.raises(ValueError, match=message):
            unlearner.unlearn(KEY, before, asked)
        after, info = answer(world, before, asked)
        assert info.refused == 4
        same(after, before)


def test_of_a_request_that_is_refused_in_part_the_rest_is_answered():
    data, _, _ = world()
    first = hf.forget_rows(data, [3, 4, 5, 6], capacity=8)
    state, _ = answer(world, begun(world), first)
    mixed = hf.forget_rows(data, [3, 9, 5, 11], capacity=8)
    after, info = answer(world, state, mixed)
    # Padding in the place of those that are refused.
    rest = mixed._replace(rows=mixed.rows.at[jnp.array([0, 2])].set(-1))
    expected, alone = answer(world, state, rest)
    assert (info.refused, alone.refused) == (2, 0) and info.loss[-1] < info.loss[0]
    same(after, expected)
    same(info._replace(refused=alone.refused), alone)


# What the retained data notice.

# Steps that none of the four takes too far.
RATES = {"normalised": 1.0, "sgd": 0.4, "adam": 0.06, "coordinates": 0.08}


@pytest.mark.parametrize(
    "optimizer, biases",
    [
        # One program each: two of them, and the rest by .ci/run.
        ("normalised", True),
        ("adam", False),
        *(
            pytest.param(name, True, marks=pytest.mark.slow)
            for name in OPTIMIZERS
            if name != "normalised"
        ),
    ],
)
def test_protected_answers_stay(optimizer, biases):
    """And so do normalisation, always, and biases that are frozen."""
    data, classifier, variables = wide()
    gone = [0, 5]
    rest = np.setdiff1d(np.arange(8), gone)
    rates = {"learning_rate": RATES[optimizer], "end_rate": RATES[optimizer]}
    after, info = answer(
        wide,
        begun(wide),
        hf.forget_rows(data, gone),
        # All that the retained data use, but for rounding.
        {"threshold": 3e-3, **rates},
        rank="drift",
        optimizer=optimizer,
        biases=biases,
    )
    # As many directions as rows are retained, and more of them in every layer.
    assert set(map(int, info.protected.values())) == {rest.size}
    assert info.rounds == 12 and info.failed_at == -1
    assert info.loss[-1] < info.loss[0] / 3
    before, now = (
        np.asarray(classifier.apply(v, data.x)) for v in (variables, after.variables)
    )
    # Rounding of steps whose sum is of size one.
    assert np.abs(now - before)[rest].max() < 1e-3
    assert np.abs(now - before)[gone].max() > 1
    old, new = variables["params"], after.variables["params"]
    same(new["BatchNorm_0"], old["BatchNorm_0"])
    same(after.variables["batch_stats"], variables["batch_stats"])
    for path in ("Dense_0", "Dense_1"):
        assert (new[path]["kernel"] != old[path]["kernel"]).any()
        moved = new[path]["bias"] != old[path]["bias"]
        assert moved.any() if biases else not moved.any()


# Whatever steps are taken, they are twelve.
FREE_LONG_ROUNDS = {
    "free_columns": True,
    "optimizer": "sgd",
    "rounds": 4,
    "round_steps": 3,
    "batch_size": 4,
}


@pytest.mark.parametrize("free, biases", [(False, True), (True, True), (False, False)])
def test_the_certificate_is_the_drift_of_the_retained_data(free, biases):
    data, classifier, variables = world()
    request = hf.forget_classes(data, [1], capacity=8)
    how = {"free_columns": True} if free else {}
    if not biases:
        how = how | {"biases": False}
    after, info = answer(world, begun(world), request, **how)
    assert info.rounds == 12
    change = jax.tree.map(
        lambda new, old: np.asarray(new, np.float64) - np.asarray(old, np.float64),
        after.variables["params"],
        variables["params"],
    )
    assert np.abs(change["Dense_1"]["kernel"][:, 1]).max() > 1e-2
    if free:
        own = np.arange(toys.NUM_CLASSES) == 1
        change["Dense_1"] = {
            name: np.where(own, 0, leaf) for name, leaf in change["Dense_1"].items()
        }
    # The inputs that layers had before anything was forgotten.
    retained = np.asarray(data.y) != 1
    for path, (tap,) in classifier.taps(variables, data.x[retained]).items():
        given, layer = np.asarray(tap.input, np.float64), variables["params"][path]
        moved = given @ change[path]["kernel"] + change[path]["bias"]
        own = np.array(given @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))
        if free and path == "Dense_1":
            own[:, 1] = 0
        expected = np.square(moved).sum(axis=1).mean()
        assert expected > 1e-4
        # Differences of float32 numbers: some digits are gone.
        np.testing.assert_allclose(info.drift[path], expected, rtol=1e-4)
        relative = np.sqrt(expected / np.square(own).sum(axis=1).mean())
        np.testing.assert_allclose(info.relative_drift[path], relative, rtol=1e-4)


def test_free_columns_are_those_of_the_forgotten_class():
    """What they answer to the retained data changes freely; all else is protected."""
    data, _, variables = world()
    request = hf.forget_classes(data, [1], capacity=8)
    rows = request._replace(classes=jnp.zeros(toys.NUM_CLASSES, bool))
    # So soft that it is hard: no direction has a thousandth of its way.
    hard = {"threshold": 1e-7, "learning_rate": 0.2, "end_rate": 0.2}
    before = variables["params"]["Dense_1"]["kernel"]
    for asked, free in ((request, [1]), (rows, [])):
        after, _ = answer(world, begun(world), asked, hard, **FREE_LONG_ROUNDS)
        change = np.abs(after.variables["params"]["Dense_1"]["kernel"] - before)
        assert np.flatnonzero(change.max(axis=0) > 1e-2).tolist() == free


# When it ends.


def test_rounds_are_pieces_of_one_descent():
    """Minibatches go on where they were, within a pass over the forget data."""
    data, _, _ = world()
    request, state = hf.forget_rows(data, range(8)), begun(world)
    numbers = {"learning_rate": 0.1, "end_rate": 0.02}
    apart = FREE_LONG_ROUNDS | {"rounds": 12, "round_steps": 1}
    long, info = answer(world, state, request, numbers, **FREE_LONG_ROUNDS)
    short, each = answer(world, state, request, numbers, **apart)
    assert info.loss[-1] < info.loss[0]
    # Another compilation.
    chex.assert_trees_all_close(long, short, rtol=1e-5, atol=1e-6)
    by_rounds = each.loss.reshape(-1, 3).mean(axis=1)
    np.testing.assert_allclose(by_rounds, info.loss, rtol=1e-4)


def test_a_round_s_loss_is_that_of_its_own_minibatches():
    """An epoch is as long as the rows that count, and padding has no loss."""
    data, _, _ = world()
    by_epochs = {"rounds": 2, "round_steps": None, "batch_size": 4}
    numbers = {"learning_rate": 0.1, "end_rate": 0.1}
    (_, info), (_, padded) = (
        answer(
            world,
            begun(world),
            hf.forget_rows(data, range(8), capacity=capacity),
            numbers,
            **by_epochs,
        )
        for capacity in (8, 24)
    )
    assert info.loss.shape == (2,) and (info.loss > 0).all()
    # Another compilation.
    np.testing.assert_allclose(padded.loss, info.loss, rtol=1e-5)


def _stays_after_the_last_round(info):
    rounds = int(info.rounds)
    curve = info.forget_accuracy
    assert curve.shape == (STEPWISE["rounds"] + 1,)
    assert (curve[rounds:] == curve[rounds]).all()
    assert info.loss.shape == (STEPWISE["rounds"],)
    assert (info.loss[rounds:] == 0).all() and (info.loss[:rounds] != 0).all()


def test_it_stops_at_held_out_accuracy_on_the_nearer_side():
    data, _, _ = world()
    request = hf.forget_rows(data, range(8))
    state = begun(world, held_out=True)
    levels = state.store.margins.unseen.size

    def stopped_at(share):
        """As if this share of held-out examples were answered right."""
        unseen = np.where(np.arange(levels) < round((1 - share) * levels), -1.0, 1.0)
        margins = state.store.margins._replace(
            unseen=jnp.asarray(unseen, jnp.float32),
            accuracy=jnp.float32((unseen > 0).mean()),
        )
        after, info = answer(
            world,
            state._replace(store=state.store._replace(margins=margins)),
            request,
            {"learning_rate": 0.2, "end_rate": 0.2},
            # A loss that the held-out data do not change.
            objective="published",
            optimizer="sgd",
            rank="none",
            stop="accuracy",
        )
        _stays_after_the_last_round(info)
        return (unseen > 0).mean(), after, info

    _, _, free = stopped_at(0.0)
    curve = np.asarray(free.forget_accuracy)
    assert free.rounds == 12 and curve[0] == 1
    sides = set()
    for share in np.linspace(curve[-1] + 0.01, 1, 20):
        wanted, after, info = stopped_at(share)
        crossed = int(np.argmax(curve <= wanted))
        back = crossed > 0 and wanted - curve[crossed] > curve[crossed - 1] - wanted
        kept = crossed - back
        assert info.rounds == kept and info.forget_accuracy[-1] == curve[kept]
        sides.add(bool(back))
    assert sides == {False, True}
    # In the end all held-out data are answered right, as the forgotten are.
    assert wanted == 1 and info.rounds == 0
    same(after.variables, state.variables)


# What the numbers do.


def test_without_any_bound_softness_is_no_protection():
    data, _, _ = world()
    request, state = hf.forget_rows(data, range(8)), begun(world)
    none = answer(world, state, request, rank="none")
    vast = answer(world, state, request, {"threshold": 1e9})
    # The shares are one but for a billionth.
    chex.assert_trees_all_close(vast, none, rtol=1e-4, atol=1e-5)
    assert none[1].protected == {"Dense_0": 0, "Dense_1": 0}
    _, info = answer(world, state, request)
    for path, drift in info.drift.items():
        assert drift < none[1].drift[path]


def test_one_compilation_serves_all_numbers_and_each_of_them_matters():
    data, _, _ = world()
    request, state = hf.forget_rows(data, range(8)), begun(world, held_out=True)
    changes = [
        {},
        {"threshold": 10.0},
        {"learning_rate": 4.0},
        {"end_rate": 0.1},
        {"forget_margin": -2.0},
    ]
    first, *others = changes
    losses = {float(answer(world, state, request, first)[1].loss[-1])}
    compiled = program(world)._cache_size()
    losses |= {float(answer(world, state, request, c)[1].loss[-1]) for c in others}
    assert len(losses) == len(changes)
    assert program(world)._cache_size() == compiled


def test_the_forgotten_examples_are_all_that_a_request_need_bring():
    data, _, _ = world()
    rows = [3, 4, 9]
    request = hf.forget_rows(data, rows)
    mine = hf.forget_examples(data.take(jnp.array(rows)), num_classes=4)
    after, info = answer(world, begun(world), request)
    alone, told = answer(world, begun(world), mine)
    same(alone, after)
    same(told, info)


def test_held_out_examples_that_do_not_count_are_not_read():
    data, classifier, variables = world()
    probe, out = toys.points(num_rows=32, seed=8, first_id=100), jnp.arange(20)
    scribbled = toys.scribble(jax.random.key(1), probe, out)

    @jax.jit
    def margins(probe):
        return hf.pgu(classifier, probe=probe).init(KEY, variables, data).store.margins

    same(margins(probe.without(out)), margins(scribbled.without(out)))


def test_what_is_remembered_is_no_constant_of_a_program():
    """Nor are held-out examples that a jitted ``init`` is given."""
    data, classifier, variables = world()
    probe = toys.points(num_rows=24, seed=8, first_id=100)
    unlearner = hf.pgu(classifier, probe=probe)

    def constants(function, *args):
        return {np.shape(one) for one in jax.make_jaxpr(function)(*args).consts}

    assert (24, 6) in constants(unlearner.init, KEY, variables, data)
    assert (24, 6) not in constants(unlearner.init, KEY, variables, data, probe)
    state = jax.jit(unlearner.init)(KEY, variables, data, probe)
    # Another compilation; margins are differences of logits of size ten.
    chex.assert_trees_all_close(
        state, jax.jit(unlearner.init)(KEY, variables, data), rtol=1e-6, atol=1e-5
    )
    request = hf.forget_rows(data, range(8))
    found = constants(unlearner.unlearn, KEY, state, request)
    assert all(np.prod(shape) < 10 for shape in found)


def test_a_descent_that_failed_says_so():
    """Steps so long that the second one's loss is not finite."""
    data, _, _ = world()
    request, state = hf.forget_rows(data, range(8)), begun(world)
    numbers = {"learning_rate": 1e30, "end_rate": 1e30}
    after, info = answer(world, state, request, numbers, **FREE_LONG_ROUNDS)
    same(after.variables, state.variables)
    assert info.failed_at == 1


def test_models_share_the_forget_data_under_vmap():
    data, classifier, variables = world()
    models = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), variables)
    request = hf.forget_classes(data, [1], capacity=23)  # No other array has 23 rows.
    copies = f"tensor<3x23x{data.x.shape[1]}xf32>"
    for stop, is_shared in (("never", True), ("accuracy", False)):
        unlearner = hf.pgu(classifier, hf.PGUConfig(stop=stop, batch_size=7))
        states = jax.vmap(unlearner.init, (None, 0, None))(KEY, models, data)
        answer = jax.vmap(unlearner.unlearn, (None, 0, None))
        lowered = jax.jit(answer).lower(KEY, states, request)
        assert (copies not in lowered.as_text()) == is_shared
