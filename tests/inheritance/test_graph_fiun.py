"""Graphs that forget: against one model after the other, and what they refuse."""

import functools
import re
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import fisher, inheritance, trees
from hyperforget_jax.models.head import centre_head, find_head
from tests import toys
from tests.inheritance import families
from tests.inheritance.families import (
    ASKED,
    NAMES,
    NUM_CLASSES,
    UNREACHED,
    config,
    family,
    prepared,
    requests,
)

PRESETS = ("repaired", "head_reassign")
KEY = jax.random.key(5)
both_roots = functools.partial(requests, "left", "right")


@functools.cache
def answered(preset, *roots):
    """``(state before, state after, infos)``."""
    _, before, unlearn = prepared(preset)
    after, info = unlearn(KEY, before, requests(*roots))
    return before, after, info.update["default"]


def of(state, name):
    return family()[2].graph.take(state.variables, name)


def fisher_of(state, name):
    return family()[2].graph.take(state.fisher, name)


def params(state, name):
    return of(state, name)["params"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_stacked_update_is_one_model_after_the_other(preset):
    data, classifier, plan, _ = family()
    before, after, infos = answered(preset, "left", "right")
    how = config(preset)
    last = find_head(classifier, of(before, "left"), data.x)
    asked = both_roots()

    @jax.jit
    def statistics(state, asked):
        taken = []
        for root, request in asked.items():
            found = fisher.forget_statistics(
                classifier, of(state, root), request, how, last
            )
            own = None if state.fisher is None else fisher_of(state, root)
            taken.append(fisher.on_scale(found, own, how))
        return trees.stack(taken)

    @jax.jit
    def by_hand(key, variables, own, taken, reach):
        merged = trees.take(fisher.merge_statistics(taken, reach[None]), 0)
        fresh = classifier.init(key, data.x)["params"]
        return fisher.update(variables, own, merged, fresh, how, last)

    taken = statistics(before, asked)
    keys = jax.random.split(jax.random.fold_in(KEY, 0), len(NAMES))
    reach = plan.graph.reach(tuple(asked))
    for row, name in enumerate(NAMES):
        if not reach[row].any():
            continue
        own = None if before.fisher is None else fisher_of(before, name)
        variables, info = by_hand(
            keys[row], of(before, name), own, taken, jnp.asarray(reach[row])
        )
        # Batched products sum in another order.
        chex.assert_trees_all_close(of(after, name), variables, rtol=1e-4, atol=1e-6)
        chex.assert_trees_all_close(trees.take(infos, row), info, rtol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_only_who_is_reached_changes(preset):
    before, after, infos = answered(preset, "left", "right")
    for row, name in enumerate(NAMES):
        old, new = of(before, name), of(after, name)
        assert ("output_mask" in new) == (preset == "head_reassign")
        info = trees.take(infos, row)
        if name in UNREACHED:
            chex.assert_trees_all_equal(new, old)
            assert not info.held.any() and info.dampened == 0
            if before.fisher is not None:
                chex.assert_trees_all_equal(
                    fisher_of(after, name), fisher_of(before, name)
                )
        else:
            changed = jax.tree.map(lambda a, b: (a != b).any(), new, old)
            assert any(jax.tree.leaves(changed))
            assert (info.dampened > 0) == (preset != "head_reassign")


def test_who_stands_on_two_roots_forgets_what_either_does():
    before, after, infos = answered("head_reassign", "left", "right")
    lost = {
        "left": [0, 1],
        "son": [0, 1],
        "right": [2, 3],
        "daughter": [2, 3],
        "both": [0, 1, 2, 3],
        "heir": [0, 1, 2, 3],
    }
    for name, gone in lost.items():
        kept = [label for label in range(NUM_CLASSES) if label not in gone]
        assert families.accuracy(before, name, gone) > 0.9
        assert families.accuracy(after, name, gone) <= 0.02
        assert families.accuracy(after, name, kept) > 0.9
        held = infos.held[NAMES.index(name)]
        np.testing.assert_array_equal(np.flatnonzero(held), gone)


def test_the_fishers_of_two_roots_are_merged_by_their_maximum():
    """NumPy, from the roots' Fishers on; one config without scales or columns."""
    classifier = family()[1]
    changes = {"estimator": "per_example", "alpha": 1.5, "strength": 0.5}
    _, before, unlearn = prepared("published", **changes)
    after, info = unlearn(KEY, before, both_roots())
    measure = jax.jit(
        lambda variables, data: hf.fisher.diagonal(
            classifier, variables, data, scope=("Dense_1",), batch_size=16
        )
    )
    forget = {
        root: measure(of(before, root), request.forget).values["Dense_1"]
        for root, request in both_roots().items()
    }
    row = NAMES.index("both")
    own = fisher_of(before, "both").values["Dense_1"]
    total = sum(leaf.size for leaf in jax.tree.leaves(params(before, "both")))
    shares = {}
    for which in (["left"], ["right"], ["left", "right"]):
        selected = 0
        for name in ("kernel", "bias"):
            merged = np.max([forget[root][name] for root in which], axis=0)
            merged, d = np.float64(merged), np.float64(own[name])
            chosen = merged > 1.5 * d
            selected += chosen.sum()
            old = np.float64(params(before, "both")["Dense_1"][name])
            ratio = 0.5 * d / np.where(chosen, merged, 1)
            expected = np.where(chosen, np.minimum(ratio, 1) * old, old)
            if len(which) == 2:
                # The Fishers are float32, from another compilation.
                np.testing.assert_allclose(
                    params(after, "both")["Dense_1"][name],
                    expected,
                    rtol=1e-4,
                    atol=1e-6,
                )
        shares[tuple(which)] = selected / total
    both = shares["left", "right"]
    assert both > max(shares["left",], shares["right",]) > 0
    dampened = info.update["default"].dampened[row]
    np.testing.assert_allclose(dampened, both, rtol=1e-6)
    chex.assert_trees_all_equal(
        params(after, "both")["Dense_0"], params(before, "both")["Dense_0"]
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_no_example_but_the_roots_forgotten_ones_is_read(preset):
    before, expected, _ = answered(preset, "left", "right")

    def scribbled(request):
        rows = np.asarray(request.rows)
        inside = rows[rows < request.data.y.size]
        inside = inside[np.asarray(request.data.weight)[inside] > 0]
        others = np.setdiff1d(np.arange(request.data.y.size), inside)
        assert 0 < inside.size < 20
        noisy = toys.scribble(jax.random.key(9), request.data, jnp.asarray(others))
        return request._replace(data=noisy)

    given = {root: scribbled(each) for root, each in both_roots().items()}
    after, _ = prepared(preset)[2](KEY, before, given)
    chex.assert_trees_all_equal(after, expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_was_forgotten_is_remembered_by_all_who_are_reached(preset):
    data, _, plan, _ = family()
    before, after, _ = answered(preset, "left", "right")
    assert not before.forgotten.classes.any() and not before.forgotten.gone.any()
    reach = plan.graph.reach(tuple(ASKED))
    rows = [np.asarray(r.forget.id[r.forget.weight > 0]) for r in both_roots().values()]
    for row, name in enumerate(NAMES):
        roots = [root for root, is_in in zip(ASKED, reach[row], strict=True) if is_in]
        classes = [label for root in roots for label in ASKED[root]]
        lost = np.flatnonzero(after.forgotten.classes[row]).tolist()
        assert lost == classes
        ids = [each for each, is_in in zip(rows, reach[row], strict=True) if is_in]
        gone = data.id[after.forgotten.gone[row]]
        np.testing.assert_array_equal(gone, np.sort(np.concatenate([*ids, []])))
        mask = of(after, name).get("output_mask", np.zeros(NUM_CLASSES, bool))
        masked = classes if preset == "head_reassign" else []
        np.testing.assert_array_equal(np.flatnonzero(mask), masked)


@pytest.mark.slow  # It compiles once more.
def test_a_donated_state_is_changed_in_place():
    _, before, unlearn = prepared("repaired")
    donating = jax.jit(unlearn.__wrapped__, donate_argnums=1)
    program = donating.lower(KEY, before, requests("left")).compile().as_text()
    # Of the head, which is centred first and small, a copy is made.
    shape = before.fisher["default"].values["Dense_0"]["kernel"].shape
    assert f"f32{list(shape)}".replace(" ", "") in program
    assert not re.findall(rf"= f32\[{','.join(map(str, shape))}\]\S* copy\(", program)


def test_who_is_asked_for_nothing_is_left_as_it_was():
    _, before, unlearn = prepared("repaired")
    nothing = jax.tree.map(jnp.zeros_like, both_roots()["left"].classes)
    asked = {
        root: request._replace(
            rows=jnp.full_like(request.rows, request.data.y.shape[0]), classes=nothing
        )
        for root, request in both_roots().items()
    }
    after, info = unlearn(KEY, before, asked)
    chex.assert_trees_all_equal(after, before)
    assert not any(leaf.any() for leaf in jax.tree.leaves(info.update))


def test_many_networks_are_answered_by_vmap():
    unlearner, first, unlearn = prepared("head_reassign")
    second = first._replace(
        variables=jax.tree.map(
            lambda leaf: leaf if leaf.dtype == bool else 1.1 * leaf, first.variables
        )
    )
    keys = jnp.stack([KEY, jax.random.key(6)])
    answer = jax.jit(jax.vmap(unlearner.unlearn, (0, 0, None)))
    many, _ = answer(keys, trees.stack([first, second]), both_roots())
    for row, state in enumerate((first, second)):
        alone, _ = unlearn(keys[row], state, both_roots())
        # Batched products sum in another order.
        chex.assert_trees_all_close(trees.take(many, row), alone, rtol=1e-4, atol=1e-6)


def test_models_may_be_spread_over_devices():
    before, expected, expected_infos = answered("repaired", "left", "right")
    mesh = hf.sharding.make_mesh()
    spread = before._replace(
        variables=hf.sharding.shard(before.variables, mesh, "population"),
        fisher=hf.sharding.shard(before.fisher, mesh, "population"),
    )
    after, info = prepared("repaired")[2](KEY, spread, both_roots())
    leaf = after.variables["default"]["params"]["Dense_0"]["kernel"]
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {1}
    # Products of one model and of eight at once sum in another order.
    chex.assert_trees_all_close(
        (after, info.update["default"]),
        (expected, expected_infos),
        rtol=1e-5,
        atol=1e-5,
    )


def test_one_compilation_serves_many_requests_and_they_add_up():
    data, classifier, plan, _ = family()
    traces = []

    def taps(variables, x):
        traces.append(x.shape)
        return classifier.taps(variables, x)

    counted = classifier._replace(taps=taps)
    how = config("head_reassign")
    unlearner = inheritance.fiun(plan.graph, counted, how)
    unlearn = jax.jit(unlearner.unlearn)
    counts, state, audit = [], prepared("head_reassign")[1], ()
    for label in (4, 0, 2):
        request = hf.forget_classes(data, [label])
        asked = {"left": plan.request_at(request, "left")}
        state, _ = unlearn(KEY, state, asked)
        audit = inheritance.record(audit, plan.graph, asked, how)
        counts.append(len(traces))
    assert counts[0] > 0 and counts == counts[:1] * 3
    assert [record.request for record in audit] == [
        "left: classes 4",
        "left: classes 0",
        "left: classes 2",
    ]
    revised = inheritance.revisions(audit)
    assert len(revised["heir"]) == 3 and "right" not in revised
    for name in ("left", "son", "both", "heir"):
        assert np.flatnonzero(of(state, name)["output_mask"]).tolist() == [0, 2, 4]
        assert families.accuracy(state, name, [0, 2, 4]) == 0
        assert families.accuracy(state, name, [1, 3, 5]) > 0.9
    message = r"'left' does not know class 4; its classes are \[1, 3, 5\]"
    refused(message, "head_reassign", asked | {"left": first_class(4)}, state=state)


def first_class(label):
    data, _, plan, _ = family()
    return plan.request_at(hf.forget_classes(data, [label]), "left")


@pytest.mark.slow
def test_the_order_of_roots_does_not_matter_and_jit_equals_eager():
    """Two roots are asked for one class, of which both say something else."""
    data, _, plan, _ = family()
    unlearner, before, unlearn = prepared("repaired")
    request = hf.forget_classes(data, [4])
    one, other = (
        {root: plan.request_at(request, root) for root in roots}
        for roots in (("left", "right"), ("right", "left"))
    )
    expected = unlearn(KEY, before, one)
    chex.assert_trees_all_equal(unlearn(KEY, before, other), expected)
    for asked in (one, other):
        # Programs round as they like.
        chex.assert_trees_all_close(
            unlearner.unlearn(KEY, before, asked), expected, rtol=1e-4, atol=1e-6
        )


def test_requests_in_turn_are_a_scan():
    data, _, plan, _ = family()
    unlearner, before, unlearn = prepared("repaired")
    each = [first_class(label) for label in (4, 0)]
    keys = jax.random.split(KEY, 2)

    def step(state, inputs):
        key, request = inputs
        return unlearner.unlearn(key, state, {"left": request})

    last, _ = jax.lax.scan(step, before, (keys, trees.stack(each)))
    state = before
    for key, request in zip(keys, each, strict=True):
        state, _ = unlearn(key, state, {"left": request})
    # Programs round as they like.
    chex.assert_trees_all_close(last, state, rtol=1e-4, atol=1e-6)


def test_a_class_leaves_the_fisher_of_everyone_who_held_it():
    """By NumPy, from the Fishers before and that of the root's forgotten rows."""
    data, classifier, plan, _ = family()
    before, after, _ = answered("repaired", "left")
    measure = jax.jit(
        lambda variables, data: hf.fisher.diagonal(classifier, variables, data)
    )
    root = requests("left")["left"]
    share = measure(of(before, "left"), root.forget).values
    for name in ("left", "son", "heir"):
        old, new = fisher_of(before, name), fisher_of(after, name)
        # Five rows of each of six classes, of which two go.
        assert (old.total_weight, new.total_weight) == (30, 20)
        for path, leaf in trees.by_path(old.values).items():
            root_trace = np.sum(trees.get(fisher_of(before, "left").values, path))
            scale = np.float64(np.sum(leaf)) / np.float64(root_trace)
            gone = 10 * scale * np.float64(trees.get(share, path))
            expected = np.maximum(30 * np.float64(leaf) - gone, 0) / 20
            # Differences of float32 sums.
            np.testing.assert_allclose(
                trees.get(new.values, path),
                expected,
                rtol=1e-3,
                atol=1e-5 * float(np.max(leaf)),
            )
    row = NAMES.index("heir")
    held = after.included.weight[row].tolist()
    assert held == [0, 0, 5, 5, 5, 5]
    # The same class again, from the other root, takes nothing more out.
    again = {"both": plan.request_at(hf.forget_classes(data, [0]), "both")}
    refused("'both' does not know class 0", "repaired", again, state=after)


def test_a_root_that_diverged_reaches_the_fishers_of_its_own_descendants_alone():
    _, before, unlearn = prepared("repaired")
    row = NAMES.index("right")
    broken = jax.tree.map(lambda leaf: leaf.at[row].set(jnp.nan), before.variables)
    after, _ = unlearn(KEY, before._replace(variables=broken), both_roots())
    for name in NAMES:
        leaves = jax.tree.leaves(fisher_of(after, name))
        is_finite = all(jnp.isfinite(leaf).all() for leaf in leaves)
        assert is_finite == (name in ("left", "son", *UNREACHED))


def test_rows_leave_the_fisher_of_whoever_was_measured_on_them():
    """One client in two rounds: the same rows, and an average that stands for them."""
    data = toys.points()
    classifier = toys.perceptron()
    plan = inheritance.federated_averaging(
        jax.random.key(0), data, rounds=2, client_sizes=(1, 1)
    )
    names = plan.graph.names
    keys = jax.random.split(jax.random.key(1), len(names))
    models = jax.jit(jax.vmap(classifier.init, (0, None)))(keys, data.x)
    how = hf.FIUnConfig(batch_size=16, deep_alpha=0.2)
    unlearner = inheritance.fiun(plan.graph, classifier, how)
    before = jax.jit(unlearner.init)(KEY, {"default": models}, plan.data(data))
    rows = np.flatnonzero(plan.rows[names.index("client1.1")])[:3]
    asked = plan.requests(hf.forget_rows(data, rows))
    assert tuple(asked) == ("client1.1",)
    after, _ = jax.jit(unlearner.unlearn)(KEY, before, asked)
    lost = before.fisher["default"].total_weight - after.fisher["default"].total_weight
    expected = [
        3 if name in ("client1.1", "server1", "client1.2", "server2") else 0
        for name in names
    ]
    assert lost.tolist() == expected
    np.testing.assert_array_equal(
        before.included.rows.sum(axis=1) - after.included.rows.sum(axis=1), expected
    )


def test_rows_are_forgotten_without_a_class():
    data, _, plan, _ = family()
    _, before, unlearn = prepared("repaired", deep_alpha=0.1)
    capacity = both_roots()["left"].rows.size

    def ask(count):
        asked = {}
        for root in ASKED:
            rows = np.flatnonzero(plan.rows[NAMES.index(root)])[:count]
            request = hf.forget_rows(data, rows, num_classes=NUM_CLASSES)
            asked[root] = plan.request_at(request, root, capacity=capacity)
        audit = inheritance.record((), plan.graph, asked, config("repaired"))
        return *unlearn(KEY, before, asked), audit[0].request

    after, info, told = ask(3)
    dampened = info.update["default"].dampened.tolist()
    dampened = dict(zip(NAMES, dampened, strict=True))
    assert min(dampened[name] for name in ("left", "son", "both", "heir")) > 0
    assert max(dampened[name] for name in UNREACHED) == 0
    # No class is unknown, and the head is not bound to columns.
    assert "output_mask" not in after.variables["default"]
    assert not after.forgotten.classes.any()
    old = centre_head(params(before, "left"), "Dense_1")["Dense_1"]["kernel"]
    new = params(after, "left")["Dense_1"]["kernel"]
    assert (np.abs(new - old) > 1e-6).any(axis=0).sum() > 1
    assert told.startswith("left: rows ") and ask(2)[-1] != told


def test_a_node_without_rows_has_the_fisher_of_its_parents_rows():
    data, classifier, plan, models = family()
    rows = dict(zip(NAMES, plan.rows, strict=True))
    rows["both"] = np.zeros_like(rows["both"])
    bare = inheritance.Plan.create(data, rows, families.EDGES)
    unlearner = inheritance.fiun(bare.graph, classifier, config("repaired"))
    got = jax.jit(unlearner.init)(KEY, models, bare.data(data))
    joined = rows["left"] | rows["right"]
    seen = data._replace(weight=jnp.asarray(joined, jnp.int32))
    measure = jax.jit(
        lambda variables, data: hf.fisher.diagonal(classifier, variables, data)
    )
    expected = measure(of(got, "both"), seen)
    assert fisher_of(got, "both").total_weight == joined.sum()
    # Other microbatches sum in another order.
    chex.assert_trees_all_close(
        fisher_of(got, "both").values, expected.values, rtol=1e-4, atol=1e-9
    )
    chex.assert_trees_all_close(
        fisher_of(got, "heir"), fisher_of(prepared("repaired")[1], "heir"), rtol=1e-5
    )
    with pytest.raises(ValueError, match="data are not those of the plan"):
        bare.data(data._replace(y=data.y[::-1]))


def refused(message, preset, asked, error=ValueError, state=None, **changes):
    unlearner, before, _ = prepared(preset, **changes)
    with pytest.raises(error, match=message):
        unlearner.unlearn(KEY, before if state is None else state, asked)


def test_malformed_requests_are_refused():
    data, _, plan, _ = family()
    asked = requests("left")
    (request,) = asked.values()
    refused(
        "dictionary by root.*got ForgetRequest", "repaired", request, error=TypeError
    )
    refused("roots is empty", "repaired", {})
    refused("no node 'lef'; did you mean left?", "repaired", {"lef": request})
    bare = hf.forget_labels([0], NUM_CLASSES)
    refused("The request to 'left' carries no data", "repaired", {"left": bare})
    elsewhere = request._replace(data=data.without(request.rows))
    refused("'left' names no example", "repaired", {"left": elsewhere})
    padding = request._replace(rows=jnp.full_like(request.rows, -1))
    refused("'left' names no example", "repaired", {"left": padding})
    wide = hf.forget_classes(data, [0], num_classes=NUM_CLASSES + 1)
    wide = {"left": plan.request_at(wide, "left")}
    refused("6 logits.*7 classes", "repaired", wide)
    rows = np.flatnonzero(plan.rows[0])[:2]
    rows = hf.forget_rows(data, rows, num_classes=NUM_CLASSES)
    rows = {"left": plan.request_at(rows, "left")}
    refused("is for single rows: use hf.FIUnConfig()", "head_reassign", rows)


def test_a_state_of_another_config_is_refused():
    asked = requests("left")
    bare = prepared("head_reassign")[1]
    refused("state has no Fisher", "repaired", asked, state=bare)
    published = prepared("published")[1]
    refused("mixed estimators", "repaired", asked, state=published)
    refused(
        "cover different parameters",
        "repaired",
        asked,
        scope="head",
        state=prepared("repaired")[1],
    )


def test_a_request_for_all_that_a_node_knows_is_refused():
    unlearner, before, unlearn = prepared("head_reassign")
    gone = before.forgotten.classes.at[NAMES.index("heir"), 2:].set(True)
    state = before._replace(forgotten=before.forgotten._replace(classes=gone))
    message = "heir knows the requested classes alone"
    refused(message, "head_reassign", requests("left"), state=state)


def test_more_data_than_a_root_was_trained_on_are_refused():
    whole = {"left": hf.forget_classes(family()[0], [0, 1])}
    message = "brings 240 examples, and its Fisher is of 30: .* plan.request_at"
    refused(message, "repaired", whole)


def test_thresholds_that_select_nothing_are_said_to():
    request = requests("left")["left"]
    for how, message in (
        (config("repaired", alpha=1.0), "alpha=1.0 selects nothing.* at most 1 there"),
        (
            config("published", estimator="per_example", alpha=3.0),
            "the forget data are 0.333 of the data.* is at most 3 there",
        ),
    ):
        with pytest.warns(RuntimeWarning, match=message):
            fisher.check_effect(how, request)
    changes = {"alpha": 1.0, "deep_alpha": 1.0}
    unlearner, before, unlearn = prepared("repaired", **changes)
    with pytest.warns(RuntimeWarning, match="selects nothing"):
        jax.eval_shape(
            lambda state: unlearner.unlearn(KEY, state, both_roots()), before
        )
    _, info = unlearn(KEY, before, both_roots())
    assert info.update["default"].dampened[NAMES.index("left")] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for preset in ("repaired", "published", "head_reassign"):
            fisher.check_effect(config(preset), request)


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float64])
@pytest.mark.parametrize("preset", hf.fisher.PRESETS)
def test_dtypes_stay(preset, kind):
    data, classifier, plan, models = family()
    unlearner = inheritance.fiun(plan.graph, classifier, config(preset))
    with jax.enable_x64(kind is jnp.float64):
        models = optax.tree.cast(models, kind)
        wide = data._replace(x=data.x.astype(jnp.promote_types(kind, jnp.float32)))
        before = jax.jit(unlearner.init)(KEY, models, plan.data(wide))
        after, _ = jax.jit(unlearner.unlearn)(KEY, before, both_roots())
        chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
        chex.assert_trees_all_equal_shapes_and_dtypes(
            after.variables["default"]["params"], models["default"]["params"]
        )
        chex.assert_tree_all_finite(after.variables)
        for leaf in jax.tree.leaves(after.fisher):
            assert leaf.dtype == jnp.float32
