"""What was forgotten stays forgotten, whatever the next request's data say."""

import functools
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.methods.table import ENSEMBLES, GRAPHS, METHODS

ROWS = {**METHODS, **GRAPHS, **ENSEMBLES}

READS_RETAINED = ("retrain", "finetune", "neggrad_plus")
REMEMBERS = (
    *READS_RETAINED,
    "ascent",
    "ssd",
    "fiun",
    "fiun_head_reassign",
    "graph_fiun",
)
KEYS = jax.random.split(jax.random.key(2), 3)
FIRST, SECOND = [0, 5, 9], [12, 30]


@functools.cache
def world(method):
    data, classifier = toys.points(), toys.perceptron()
    variables = hf.fit(
        jax.random.key(0), classifier, data, optax.adam(3e-2), 40, batch_size=16
    )
    unlearner = ROWS[method](classifier)
    state = unlearner.init(KEYS[0], variables, data)
    return data, unlearner, jax.jit(unlearner.unlearn), state


@pytest.mark.parametrize("method", REMEMBERS)
def test_full_data_answer_as_data_without_the_forgotten(method):
    data, _, unlearn, state = world(method)
    rows = [[1], [2]] if method == "fiun_head_reassign" else [FIRST, SECOND]
    make = hf.forget_classes if method == "fiun_head_reassign" else hf.forget_rows
    first = make(data, rows[0])
    state, _ = unlearn(KEYS[1], state, first)
    by_hand = unlearn(KEYS[2], state, make(data, rows[1]))
    in_order = unlearn(KEYS[2], state, make(first.retain, rows[1]))
    chex.assert_trees_all_equal(by_hand, in_order)


@pytest.mark.parametrize("method", READS_RETAINED)
def test_forgotten_rows_are_not_read_again(method):
    data, _, unlearn, state = world(method)
    state, _ = unlearn(KEYS[1], state, hf.forget_rows(data, FIRST))
    scribbled = toys.scribble(jax.random.key(7), data, jnp.array(FIRST))
    chex.assert_trees_all_equal(
        *(unlearn(KEYS[2], state, hf.forget_rows(d, SECOND)) for d in (data, scribbled))
    )


@pytest.mark.parametrize("method", READS_RETAINED)
def test_a_forgotten_class_is_not_read_again_under_other_ids(method):
    data, _, unlearn, state = world(method)
    state, _ = unlearn(KEYS[1], state, hf.forget_classes(data, [1]))
    other = data._replace(id=jnp.where(data.y == 1, data.id + 1_000, data.id))
    gone = jnp.flatnonzero(data.y == 1)
    scribbled = toys.scribble(jax.random.key(7), other, gone)._replace(y=other.y)
    chex.assert_trees_all_equal(
        *(
            unlearn(KEYS[2], state, hf.forget_classes(d, [2]))
            for d in (other, scribbled)
        )
    )


@pytest.mark.parametrize("method", READS_RETAINED)
def test_rows_are_known_by_their_ids_in_any_order(method):
    data, _, unlearn, state = world(method)
    turned = data.take(jnp.arange(40)[::-1])
    state, _ = unlearn(KEYS[1], state, hf.forget_rows(turned, [39 - r for r in FIRST]))
    known = np.isin(np.asarray(state.forgotten.id), FIRST)
    np.testing.assert_array_equal(state.forgotten.gone, known)


@pytest.mark.parametrize("method", ["neggrad_plus", "ssd", "fiun", "graph_fiun"])
def test_under_scan_and_vmap(method):
    """The very requests of a loop, none of whose data were made to forget."""
    data, unlearner, unlearn, start = world(method)
    rows = [FIRST, SECOND, [20]]
    requests = [hf.forget_rows(data, each, capacity=4) for each in rows]
    stacked = hf.ForgetRequest(
        data,
        jnp.stack([request.rows for request in requests]),
        jnp.stack([request.classes for request in requests]),
    )

    def step(state, inputs):
        key, rows, classes = inputs
        return unlearner.unlearn(key, state, hf.ForgetRequest(data, rows, classes))

    last, _ = jax.lax.scan(step, start, (KEYS, stacked.rows, stacked.classes))
    state = start
    for key, request in zip(KEYS, requests, strict=True):
        state, _ = unlearn(key, state, request)
    # Adam divides by small numbers, and programs round as they like.
    chex.assert_trees_all_close(last, state, atol=2e-4, rtol=1e-4)
    np.testing.assert_array_equal(last.forgotten.gone, state.forgotten.gone)
    if method in GRAPHS:
        return  # Many graphs at once: see tests/inheritance/test_graph_fiun.py.

    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), start, state)
    keys = jax.random.split(KEYS[0], 2)
    request = hf.forget_rows(data, [33, *FIRST], capacity=4)
    answers, _ = jax.vmap(unlearn, (0, 0, None))(keys, both, request)
    gone = np.isin(np.asarray(data.id), [33, *FIRST, *SECOND, 20])
    np.testing.assert_array_equal(answers.forgotten.gone[1], gone)


@pytest.mark.parametrize("method", ["neggrad_plus", "ascent", "ssd", "fiun"])
def test_rows_that_init_was_not_given_are_refused(method):
    data, unlearner, unlearn, state = world(method)
    other = data._replace(id=data.id + 500)
    request = hf.forget_rows(other, [3, 4])
    with pytest.raises(ValueError, match=r"2 examples that init was not given.*\[503"):
        unlearner.unlearn(KEYS[0], state, request)
    # Under jit ids cannot be seen: such rows are neither forgotten nor retained.
    after, info = unlearn(KEYS[0], state, request)
    assert not after.forgotten.gone.any()
    assert info.refused == 2 and float(info.change.forget_accuracy) == 0
    scribbled = toys.scribble(jax.random.key(7), other, jnp.array([3, 4]))
    chex.assert_trees_all_equal(
        unlearn(KEYS[0], state, hf.forget_rows(scribbled, [3, 4])), (after, info)
    )


@pytest.mark.parametrize("method", ["ascent", "neggrad_plus"])
def test_few_rows_under_the_defaults_are_warned_of(method):
    data, classifier = toys.points(), toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    few = hf.forget_rows(data, FIRST)
    by_default, fewer = (
        getattr(hf, method)(classifier),
        getattr(hf, method)(classifier, steps=2),
    )
    state = by_default.init(KEYS[0], variables, data)
    with pytest.warns(
        UserWarning, match=rf"hf\.{method}.*about 150.*here are (at most )?4"
    ):
        jax.eval_shape(
            lambda key, state: by_default.unlearn(key, state, few), KEYS[0], state
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(lambda key, s: fewer.unlearn(key, s, few), KEYS[0], state)


@pytest.mark.slow
def test_methods_that_drive_labels_out_say_what_becomes_of_rows():
    data, classifier = toys.points(400), toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    rows, classes = hf.forget_rows(data, FIRST), hf.forget_classes(data, [1])
    probe = toys.points(seed=8, first_id=1000)
    with_probe, without = hf.pgu(classifier, probe=probe), hf.pgu(classifier)

    def answers(unlearner, request):
        state = jax.eval_shape(unlearner.init, KEYS[0], variables, data)
        # As an argument, and as a constant whose values can be seen.
        jax.eval_shape(unlearner.unlearn, KEYS[1], state, request)
        jax.eval_shape(lambda s: unlearner.unlearn(KEYS[1], s, request), state)

    with pytest.warns(UserWarning, match=r"hf\.pgu: the labels of single rows") as said:
        answers(without, rows)
    assert [each.filename for each in said] == 2 * [__file__]  # Who calls unlearn.
    with pytest.warns(UserWarning, match=r"hf\.ascent: the labels of single rows"):
        answers(hf.ascent(classifier), rows)
    with pytest.warns(UserWarning, match=r"boundary_shrink: the labels of single rows"):
        answers(hf.rivals.boundary_shrink(classifier), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers(without, classes)
        answers(with_probe, rows)
        answers(hf.ascent(classifier), classes)
        answers(hf.ascent(classifier, steps=5), rows)
