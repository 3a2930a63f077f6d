"""One contract, every method: what each must do whatever it does."""

import collections
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.methods.table import (
    ENSEMBLES,
    GRAPHS,
    MADE_OF_PARTS,
    METHODS,
    PROBE,
    SHOWN_BY_OTHERS,
    one_model,
)

ROWS = {**METHODS, **GRAPHS, **ENSEMBLES}

CLASSIFIERS = {"perceptron": toys.perceptron, "batchnorm": toys.normalised}
# Batched or sharded products sum in another order, and Adam divides by small numbers.
CLOSE = functools.partial(chex.assert_trees_all_close, atol=2e-4, rtol=1e-4)

# As many as a class has rows, so that all requests are of one program.
CAPACITY = 10
# How often the jitted methods below were traced.
TRACES = collections.Counter()


def table(methods=tuple(ROWS), networks=tuple(CLASSIFIERS)):
    """The rows that a test is asked of."""
    return pytest.mark.parametrize(
        "method, network",
        [
            # Networks that repeat what another one shows are for CI, as variants are.
            pytest.param(
                method,
                network,
                marks=[pytest.mark.slow] if network == "batchnorm" else [],
            )
            for method in methods
            for network in networks
            if network == "perceptron" or method not in SHOWN_BY_OTHERS
        ],
    )


every_row = table()
# Whatever the network, the same is padded and brought.
on_one_network = table(networks=("perceptron",))
# What the parts do, whatever is made of them.
of_parts = table([name for name in ROWS if name not in MADE_OF_PARTS])
# What a graph tells is of each of its models.
of_one_model = table([name for name in ROWS if name not in GRAPHS])


@functools.cache
def prepared(method, network):
    """A method, jitted, with a trained model's state: compiled once for all tests."""
    data = toys.points()
    classifier = CLASSIFIERS[network]()
    unlearner = ROWS[method](classifier)
    variables = _trained(network)
    state = unlearner.init(jax.random.key(1), variables, data)

    @jax.jit
    def unlearn(key, state, request):
        TRACES[method, network] += 1
        return unlearner.unlearn(key, state, request)

    return data, classifier, unlearner, unlearn, state


@functools.cache
def in_turn(method, network):
    """Jitted: one request after the other."""
    unlearner = prepared(method, network)[2]
    return jax.jit(functools.partial(hf.unlearn_sequence, unlearner))


def _with_another_probe(method, classifier):
    everything = jnp.arange(PROBE.y.shape[0])
    noisy = toys.scribble(jax.random.key(13), PROBE, everything)
    return ROWS[method](classifier, probe=noisy)


@functools.cache
def jitted_init(method, network):
    return jax.jit(prepared(method, network)[2].init)


@functools.cache
def _trained(network):
    key, data = jax.random.key(0), toys.points()
    return hf.fit(
        key, CLASSIFIERS[network](), data, optax.adam(3e-2), 40, batch_size=16
    )


@pytest.mark.slow
@on_one_network
def test_a_jitted_function_may_close_over_what_is_known(method, network):
    data, _, unlearner, _, state = prepared(method, network)
    variables = _trained(network)
    request = hf.forget_classes(data, [1])

    def answer(key):
        own = unlearner.init(key, variables, data)
        return [unlearner.unlearn(key, each, request)[0] for each in (own, state)]

    # Checks of values see them, and stay out of the trace.
    own, other = jax.eval_shape(answer, jax.random.key(2))
    chex.assert_trees_all_equal_shapes_and_dtypes(own, other, state)


@every_row
def test_types(method, network):
    data, classifier, unlearner, unlearn, state = prepared(method, network)
    assert isinstance(unlearner, hf.Unlearner)
    assert isinstance(unlearner.access, hf.Access)
    assert state._fields[0] == "variables"
    after, info = unlearn(jax.random.key(2), state, hf.forget_classes(data, [1]))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    chex.assert_tree_all_finite((after, info))
    logits = classifier.apply(one_model(method, after.variables), data.x)
    assert logits.shape == (40, toys.NUM_CLASSES)


@every_row
def test_normalisation_statistics_stay(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    after, _ = unlearn(jax.random.key(2), state, hf.forget_classes(data, [1]))
    before, after = (one_model(method, each.variables) for each in (state, after))
    before, after = (each.get("batch_stats", {}) for each in (before, after))
    if method != "retrain":
        chex.assert_trees_all_equal(after, before)
    elif before:
        mean = after["BatchNorm_0"]["mean"]
        assert (mean != before["BatchNorm_0"]["mean"]).any()


@of_parts
def test_jit_equals_eager(method, network):
    data, _, unlearner, unlearn, state = prepared(method, network)
    request = hf.forget_classes(data, [2])
    CLOSE(
        unlearn(jax.random.key(3), state, request),
        unlearner.unlearn(jax.random.key(3), state, request),
    )


@every_row
def test_init_may_be_jitted(method, network):
    data, _, _, _, state = prepared(method, network)
    init = jitted_init(method, network)
    CLOSE(init(jax.random.key(1), _trained(network), data), state)


@every_row
def test_one_trace_serves_different_requests(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    state, _ = unlearn(jax.random.key(0), state, hf.forget_classes(data, [0]))
    before = TRACES[method, network]
    for label in (1, 3):
        request = hf.forget_classes(data, [label])
        state, _ = unlearn(jax.random.key(label), state, request)
    assert TRACES[method, network] == before > 0


@every_row
def test_vmap_over_requests_equals_a_loop(method, network):
    data, _, unlearner, unlearn, state = prepared(method, network)
    keys = jax.random.split(jax.random.key(4), toys.NUM_CLASSES)
    each = hf.forget_each_class(data)
    if method in MADE_OF_PARTS:  # Models and requests at once: one program for both.
        states = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(keys)), state)
        requests = hf.ForgetRequest(None, 0, 0)
        together = jax.vmap(unlearn, (0, 0, requests))(keys, states, each)
    else:
        together = hf.unlearn_each(unlearner, keys, state, each)
    for label in range(toys.NUM_CLASSES):
        alone = unlearn(keys[label], state, hf.forget_classes(data, [label]))
        CLOSE(jax.tree.map(lambda leaf, at=label: leaf[at], together), alone)


@every_row
def test_scan_over_sequential_requests_equals_a_loop(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    rows = [[0, 1, 2], [7, 30], [12]]
    keys = jax.random.split(jax.random.key(5), 3)
    requests = hf.sequence(data, rows, capacity=CAPACITY)
    states, _ = in_turn(method, network)(keys, state, requests)
    left = data
    for step, gone in enumerate(rows):
        request = hf.forget_rows(left, gone, capacity=CAPACITY)
        state, _ = unlearn(keys[step], state, request)
        CLOSE(jax.tree.map(lambda leaf, at=step: leaf[at], states), state)
        left = request.retain


@every_row
def test_second_request_never_brings_the_first_ones_rows_back(method, network):
    data, _, unlearner, _, state = prepared(method, network)
    if "forget" in unlearner.access.unlearn:
        return  # It reads the first request's rows, to forget them.
    first = [0, 1, 2, 9]
    keys = jax.random.split(jax.random.key(6), 3)

    def answer(data):
        requests = hf.sequence(data, [first, [20, 21], [13]], capacity=CAPACITY)
        return in_turn(method, network)(keys, state, requests)[0]

    scribbled = toys.scribble(jax.random.key(7), data, jnp.array(first))
    chex.assert_trees_all_equal(answer(data), answer(scribbled))


@every_row
def test_padding_rows_are_inert(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    request = hf.forget_rows(data, [3, 4, 5], capacity=CAPACITY)
    # The same padding written otherwise: far out of range, or negative.
    for padding in (10_000, -1):
        rows = jnp.where(request.rows < 40, request.rows, padding)
        other = request._replace(rows=rows)
        chex.assert_trees_all_equal(
            unlearn(jax.random.key(8), state, request),
            unlearn(jax.random.key(8), state, other),
        )


@on_one_network
def test_padding_decides_nothing(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    answers = [
        unlearn(jax.random.key(8), state, hf.forget_classes(data, [1], capacity=size))
        for size in (CAPACITY, 37)
    ]
    # Sums over microbatches of other lengths round otherwise.
    variables = [state.variables for state, _ in answers]
    chex.assert_trees_all_close(*variables, atol=5e-6)


@on_one_network
def test_requests_that_bring_only_their_own_examples(method, network):
    data, _, unlearner, unlearn, state = prepared(method, network)
    mine = data.take(jnp.flatnonzero(data.y == 1))
    request = hf.forget_examples(mine, num_classes=4, classes=[1])
    whole = unlearn(jax.random.key(8), state, hf.forget_classes(data, [1]))[0]
    for ask in (unlearn,) if method in MADE_OF_PARTS else (unlearn, unlearner.unlearn):
        if "retain" in unlearner.access.unlearn:
            with pytest.raises(ValueError, match="brings the examples to forget alone"):
                ask(jax.random.key(8), state, request)
            continue
        answer = ask(jax.random.key(8), state, request)[0]
        chex.assert_trees_all_close(answer.variables, whole.variables, atol=5e-6)


@of_one_model
def test_info_tells_how_much_the_model_was_changed(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    after, info = unlearn(jax.random.key(2), state, hf.forget_classes(data, [1]))
    before = jax.tree.leaves(state.variables["params"])
    moved = jax.tree.leaves(after.variables["params"])
    pairs = list(zip(before, moved, strict=True))
    flat = [np.concatenate([np.ravel(p[i]) for p in pairs]) for i in (0, 1)]
    np.testing.assert_allclose(info.change.moved, (flat[0] != flat[1]).mean())
    np.testing.assert_allclose(
        info.change.distance,
        np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0]),
        rtol=1e-5,
        atol=1e-7,
    )


@every_row
def test_weightless_rows_are_inert(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    gone = jnp.array([0, 17])
    scribbled = toys.scribble(jax.random.key(9), data, gone)
    requests = [
        hf.forget_rows(d.without(gone), [3, 4], capacity=CAPACITY)
        for d in (data, scribbled)
    ]
    answers = [unlearn(jax.random.key(8), state, request) for request in requests]
    chex.assert_trees_all_equal(*answers)


@every_row
def test_states_round_trip_through_a_checkpoint(method, network, tmp_path):
    data, _, _, unlearn, state = prepared(method, network)
    kind = f"state/{method}"
    hf.checkpointing.save(tmp_path / "state", state, kind=kind)
    loaded = hf.checkpointing.load(tmp_path / "state", kind=kind, like=state)
    assert type(loaded) is type(state)
    request = hf.forget_classes(data, [1])
    chex.assert_trees_all_equal(
        unlearn(jax.random.key(2), loaded, request),
        unlearn(jax.random.key(2), state, request),
    )


@of_parts
def test_eight_devices_equal_one(method, network):
    data, _, unlearner, unlearn, state = prepared(method, network)
    mesh = hf.sharding.make_mesh(examples=8)
    request = hf.forget_classes(data, [1])
    alone = unlearn(jax.random.key(2), state, request)
    sharded = hf.ForgetRequest(
        hf.sharding.shard(data, mesh, "examples"),
        *hf.sharding.replicate((request.rows, request.classes), mesh),
    )
    state = hf.sharding.replicate(state, mesh)
    CLOSE(jax.jit(unlearner.unlearn)(jax.random.key(2), state, sharded), alone)


@of_parts
def test_models_of_a_population_are_answered_by_vmap(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    request = hf.forget_classes(data, [0])
    keys = jax.random.split(jax.random.key(3), 2)
    doubled = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    both = jax.vmap(unlearn, (0, 0, None))(keys, doubled, request)
    for index in range(2):
        CLOSE(
            jax.tree.map(lambda leaf, at=index: leaf[at], both),
            unlearn(keys[index], state, request),
        )


@every_row
def test_classes_must_match_the_logits(method, network):
    data, _, _, unlearn, state = prepared(method, network)
    request = hf.forget_classes(data, [1], num_classes=7)
    with pytest.raises(ValueError, match="4 logits.*7 classes"):
        unlearn(jax.random.key(0), state, request)


@every_row
def test_requests_without_data_work_or_are_refused(method, network):
    _, _, unlearner, unlearn, state = prepared(method, network)
    request = hf.forget_labels([1], num_classes=toys.NUM_CLASSES)
    if unlearner.access.unlearn & {"retain", "forget", "probe"}:
        with pytest.raises(ValueError, match="carries no data"):
            unlearn(jax.random.key(0), state, request)
    else:
        after, _ = unlearn(jax.random.key(0), state, request)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@every_row
def test_what_is_not_read_does_not_matter_by_a_bit(method, network):
    """The access record, held to its word phase by phase."""
    data, classifier, unlearner, unlearn, state = prepared(method, network)
    init = jitted_init(method, network)
    request = hf.forget_classes(data, [2])
    forgotten = np.flatnonzero(np.asarray(request.covers(data)))
    retained = np.flatnonzero(~np.asarray(request.covers(data)))
    rows = {"forget": forgotten, "retain": retained}
    key = jax.random.key(11)
    state = init(key, _trained(network), data)
    expected = unlearn(key, state, request)
    for name, of in rows.items():
        noisy = toys.scribble(jax.random.key(12), data, jnp.asarray(of))
        if name not in unlearner.access.init:
            other = init(key, _trained(network), noisy)
            chex.assert_trees_all_equal(other, state)
        if name not in unlearner.access.unlearn:
            other = unlearn(key, state, request._replace(data=noisy))
            chex.assert_trees_all_equal(other, expected)
    if "probe" in unlearner.access.init - unlearner.access.unlearn:
        other = _with_another_probe(method, classifier)
        chex.assert_trees_all_equal(
            jax.jit(other.unlearn)(key, state, request), expected
        )
    if "classes" not in unlearner.access.unlearn:
        # Which classes went is remembered for later requests, and decides nothing now.
        (after, info) = unlearn(key, state, request._replace(classes=~request.classes))
        chex.assert_trees_all_equal(after.variables, expected[0].variables)
        chex.assert_trees_all_equal(info, expected[1])


@every_row
def test_what_is_said_to_be_read_is_read(method, network):
    """No record claims more than the truth: each declared reading changes a bit."""
    data, classifier, unlearner, unlearn, state = prepared(method, network)
    request = hf.forget_classes(data, [2])
    covered = request.covers(data)
    key = jax.random.key(11)
    expected = unlearn(key, state, request)
    for name in unlearner.access.unlearn:
        if name == "classes":
            other = request._replace(classes=~request.classes)
        else:
            of = np.flatnonzero(np.asarray(covered) == (name == "forget"))
            noisy = toys.scribble(jax.random.key(12), data, jnp.asarray(of))
            other = request._replace(data=noisy)
        changed = jax.tree.map(
            lambda a, b: bool((a != b).any()), unlearn(key, state, other), expected
        )
        assert any(jax.tree.leaves(changed)), name
    for name in unlearner.access.init:
        if name == "probe":
            other = _with_another_probe(method, classifier)
            other = other.init(jax.random.key(1), _trained(network), data)
        else:
            of = np.flatnonzero(np.asarray(covered) == (name == "forget"))
            noisy = toys.scribble(jax.random.key(12), data, jnp.asarray(of))
            other = unlearner.init(jax.random.key(1), _trained(network), noisy)
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), other, state)
        assert any(jax.tree.leaves(changed)), name
