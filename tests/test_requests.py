"""Requests: what they cover, what they cost in traces, and what they refuse."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperforget_jax as hf
from hyperforget_jax.base import Access, Examples, Unlearner
from hyperforget_jax.data import examples

LABELS = np.array([0, 1, 2, 0, 1, 0, 2, 1, 0, 2])
NUM_ROWS = LABELS.size


def make_data(y=LABELS, **options):
    x = np.random.default_rng(0).normal(size=(len(y), 3)).astype(np.float32)
    return examples(x, y, **options)


DATA = make_data(id=100 + np.arange(NUM_ROWS))
ROWS = st.lists(
    st.integers(0, NUM_ROWS - 1), min_size=1, max_size=NUM_ROWS - 1, unique=True
)


def active(data):
    return np.flatnonzero(data.weight).tolist()


class ExamplesTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_take_clips_and_weighs_nothing(self):
        rows = jnp.array([2, NUM_ROWS, 7, -1, 10**6])
        taken = self.variant(Examples.take)(DATA, rows)
        assert taken.weight.tolist() == [1, 0, 1, 0, 0]
        assert taken.id.tolist() == [102, -1, 107, -1, -1]
        np.testing.assert_array_equal(taken.x[np.array([0, 2])], DATA.x[rows[:3:2]])
        np.testing.assert_array_equal(taken.y[np.array([0, 2])], LABELS[[2, 7]])
        assert np.isfinite(taken.x).all()

    @chex.variants(with_jit=True, without_jit=True)
    def test_take_keeps_multiplicities(self):
        data = DATA._replace(weight=jnp.arange(NUM_ROWS, dtype=jnp.int32))
        taken = self.variant(Examples.take)(data, jnp.array([0, 3, 3, 9]))
        assert taken.weight.tolist() == [0, 3, 3, 9]

    @chex.variants(with_jit=True, without_jit=True)
    def test_without_changes_weights_alone(self):
        # -1 would be the last row to NumPy: it must be nobody.
        left = self.variant(Examples.without)(DATA, jnp.array([1, 4, -1, NUM_ROWS, 99]))
        assert active(left) == [0, 2, 3, 5, 6, 7, 8, 9]
        chex.assert_trees_all_equal(left._replace(weight=DATA.weight), DATA)


class CoversTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_class_requests_cover_the_class_wherever_it_is(self):
        request = hf.forget_classes(DATA, [2])
        elsewhere = make_data(np.array([2, 0, 2]), id=[900, 100, 901])
        covers = self.variant(lambda request, examples: request.covers(examples))
        assert covers(request, elsewhere).tolist() == [True, False, True]
        assert covers(request, DATA).tolist() == (LABELS == 2).tolist()

    @chex.variants(with_jit=True, without_jit=True)
    def test_row_requests_cover_ids_and_never_padding(self):
        # Three rows in a capacity of four: the fourth is padding, with id -1.
        request = hf.forget_rows(DATA, [1, 4, 9])
        elsewhere = Examples(
            jnp.zeros((4, 3)),
            jnp.array([1, 1, 1, 1]),
            jnp.ones(4, jnp.int32),
            jnp.array([104, -1, 900, 109]),
        )
        covers = self.variant(lambda request, examples: request.covers(examples))
        assert covers(request, elsewhere).tolist() == [True, False, False, True]

    @chex.variants(with_jit=True, without_jit=True)
    def test_requests_without_data_cover_classes(self):
        request = hf.forget_labels([0, 1], 3)
        covers = self.variant(lambda request, examples: request.covers(examples))
        assert covers(request, DATA).tolist() == (LABELS < 2).tolist()

    @chex.variants(with_jit=True, without_jit=True)
    def test_split_is_two_halves_of_full_length(self):
        data = DATA._replace(weight=jnp.arange(NUM_ROWS, dtype=jnp.int32))
        for request in (
            hf.forget_rows(DATA, [1, 4, 9]),
            hf.forget_classes(DATA, [1]),
            hf.forget_labels([1], 3),
        ):
            split = self.variant(lambda request, examples: request.split(examples))
            forget, retain = split(request, data)
            chex.assert_trees_all_equal(forget.weight + retain.weight, data.weight)
            chex.assert_trees_all_equal(forget.weight * retain.weight, 0 * data.weight)
            chex.assert_trees_all_equal(forget._replace(weight=data.weight), data)
            covered = np.flatnonzero(np.asarray(request.covers(data)))
            assert active(forget) == [row for row in covered if row > 0]


@given(ROWS)
def test_forget_and_retain_are_complements(rows):
    request = hf.forget_rows(DATA, rows)
    assert active(request.retain) == sorted(set(range(NUM_ROWS)) - set(rows))
    forget = request.forget
    chex.assert_equal_shape([request.rows, forget.y, forget.weight, forget.id])
    named = np.asarray(forget.id)[np.asarray(forget.weight) > 0]
    assert named.tolist() == [100 + row for row in rows]
    assert not request.classes.any()


@given(ROWS)
def test_capacity_of_rows_is_the_next_power_of_two(rows):
    capacity = hf.forget_rows(DATA, rows).rows.size
    assert capacity >= len(rows) and capacity.bit_count() == 1
    assert capacity == 1 or capacity // 2 < len(rows)
    padding = hf.forget_rows(DATA, rows).rows[len(rows) :]
    assert (padding == NUM_ROWS).all()


@pytest.mark.parametrize(("classes", "capacity"), [([0], 4), ([1], 4), ([1, 2], 8)])
def test_capacity_of_classes_is_that_of_the_largest(classes, capacity):
    # Class 0 has four rows, the others three.
    request = hf.forget_classes(DATA, classes)
    assert request.rows.size == capacity
    wanted = np.flatnonzero(np.isin(LABELS, classes))
    assert request.rows[: wanted.size].tolist() == wanted.tolist()
    assert (request.rows[wanted.size :] == NUM_ROWS).all()
    assert np.flatnonzero(request.classes).tolist() == classes


def test_capacity_outlives_earlier_requests():
    left = DATA.without(hf.forget_classes(DATA, [0]).rows)
    request = hf.forget_classes(left, [1])
    assert request.rows.size == hf.forget_classes(DATA, [1]).rows.size
    assert active(request.retain) == np.flatnonzero(LABELS == 2).tolist()


def test_capacity_argument():
    assert hf.forget_rows(DATA, [1], capacity=6).rows.size == 6
    assert hf.forget_classes(DATA, [1], capacity=3).rows.size == 3
    assert hf.sequence(DATA, [[1], [2]], capacity=5).rows.shape == (2, 5)


def test_one_trace_serves_every_class():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def count(request):
        return request.forget.weight.sum(), request.retain.weight.sum()

    for label in range(3):
        size = int((LABELS == label).sum())
        request = hf.forget_classes(DATA, [label])
        assert tuple(map(int, count(request))) == (size, NUM_ROWS - size)


def test_number_of_classes():
    assert hf.forget_rows(DATA, [1]).classes.shape == (3,)
    assert hf.forget_rows(DATA, [1], num_classes=7).classes.shape == (7,)
    assert hf.forget_classes(DATA, [1], num_classes=7).classes.shape == (7,)
    assert hf.forget_each_class(DATA).classes.shape == (3, 3)
    assert hf.sequence(DATA, [[1]], num_classes=7).classes.shape == (1, 7)


def test_examples_alone_are_a_request_without_the_others():
    whole = hf.forget_rows(DATA, [1, 4, 6], capacity=3)
    mine = DATA.take(jnp.array([1, 4, 6]))
    alone = hf.forget_examples(mine, num_classes=3, capacity=3)
    chex.assert_trees_all_equal(alone.forget, whole.forget)
    np.testing.assert_array_equal(alone.covers(DATA), whole.covers(DATA))
    with pytest.raises(ValueError, match="asks for those that stay"):
        alone.retain  # noqa: B018
    own = LABELS == 1
    request = hf.forget_examples(
        DATA.take(jnp.asarray(np.flatnonzero(own))), num_classes=3, classes=[1]
    )
    np.testing.assert_array_equal(request.covers(DATA), own)
    with pytest.raises(ValueError, match=r"of the classes \[1\] alone, got \[0"):
        hf.forget_examples(DATA, num_classes=3, classes=[1])
    with pytest.raises(ValueError, match="examples are none"):
        hf.forget_examples(mine.without(jnp.arange(3)), num_classes=3, classes=[1])


def test_forget_where():
    by_function = hf.forget_where(DATA, lambda data: data.y == 1)
    by_mask = hf.forget_where(DATA, LABELS == 1)
    chex.assert_trees_all_equal(by_function, by_mask)
    assert by_mask.rows.tolist() == [1, 4, 7, NUM_ROWS]


def test_forget_where_passes_over_rows_that_are_gone():
    request = hf.forget_where(DATA.without(jnp.array([4])), LABELS == 1)
    assert request.rows.tolist() == [1, 7]


def test_forget_random():
    key, other = jax.random.split(jax.random.key(0))
    gone = jnp.array([0, 1, 2])
    data = DATA.without(gone)
    request = hf.forget_random(key, data, 4)
    rows = request.rows.tolist()
    assert len(set(rows)) == 4 and set(rows) <= set(active(data))
    chex.assert_trees_all_equal(request, hf.forget_random(key, data, 4))
    assert rows != hf.forget_random(other, data, 4).rows.tolist()


def test_forget_random_reaches_every_row():
    keys = jax.random.split(jax.random.key(1), 60)
    drawn = [hf.forget_random(key, DATA, 2).rows.tolist() for key in keys]
    assert {row for rows in drawn for row in rows} == set(range(NUM_ROWS))


def test_forget_each_class_stacks_the_single_requests():
    stacked = hf.forget_each_class(DATA)
    assert stacked.data is DATA
    for label in range(3):
        single = hf.forget_classes(DATA, [label])
        chex.assert_trees_all_equal(stacked.rows[label], single.rows)
        chex.assert_trees_all_equal(stacked.classes[label], single.classes)


def test_forget_labels_carries_no_data():
    request = hf.forget_labels([1], 3)
    assert request.data is None
    assert request.classes.tolist() == [False, True, False]
    assert len(jax.tree.leaves(request)) == 2


@pytest.mark.parametrize("half", ["forget", "retain"])
@pytest.mark.parametrize("wrap", [jax.jit, lambda function: function])
def test_a_method_that_needs_data_says_so_when_traced(half, wrap):
    method = wrap(lambda request: getattr(request, half).x.sum())
    with pytest.raises(ValueError, match="carries no data.*forget_classes or forget_r"):
        method(hf.forget_labels([1], 3))
    with pytest.raises(ValueError, match="carries no data"):
        jax.eval_shape(method, hf.forget_labels([1], 3))


def weigher():
    """A method whose state is the total weight it was given, request by request."""

    def init(key, variables, data):
        del key, data
        return (variables,)

    def unlearn(key, state, request):
        (total,) = state
        info = {
            "forgotten": request.forget.weight.sum(),
            "retained": request.retain.weight,
            "classes": request.classes,
            "key": jax.random.key_data(key),
        }
        return (total + info["forgotten"],), info

    return Unlearner(init, unlearn, Access())


def test_unlearn_each_answers_from_one_state():
    method, keys = weigher(), jax.random.split(jax.random.key(0), 3)
    each = jax.jit(lambda *arguments: hf.unlearn_each(method, *arguments))
    states, infos = each(keys, (jnp.int32(5),), hf.forget_each_class(DATA))
    assert states[0].tolist() == [5 + 4, 5 + 3, 5 + 3]
    for label in range(3):
        np.testing.assert_array_equal(infos["retained"][label], LABELS != label)
    chex.assert_trees_all_equal(infos["key"], jax.random.key_data(keys))


def test_unlearn_each_without_data():
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *(hf.forget_labels([label], 3) for label in range(3)),
    )
    method = weigher()._replace(
        unlearn=lambda key, state, request: (state, request.classes.argmax())
    )
    keys = jax.random.split(jax.random.key(0), 3)
    infos = hf.unlearn_each(method, keys, (0,), stacked)[1]
    assert infos.tolist() == [0, 1, 2]


def test_unlearn_sequence_goes_from_state_to_state():
    stacked = hf.sequence(DATA, [[1, 4], hf.forget_classes(DATA, [0])])
    keys = jax.random.split(jax.random.key(0), 2)
    run = jax.jit(lambda *arguments: hf.unlearn_sequence(weigher(), *arguments))
    states, infos = run(keys, (jnp.int32(0),), stacked)
    assert states[0].tolist() == [2, 2 + 4]
    assert infos["classes"].tolist() == [[False] * 3, [True, False, False]]
    np.testing.assert_array_equal(infos["retained"][1], [0, 0, 1, 0, 0, 0, 1, 1, 0, 1])
    chex.assert_trees_all_equal(infos["key"], jax.random.key_data(keys))


@given(st.permutations(range(NUM_ROWS)), st.integers(1, 4), st.integers(1, 2))
def test_a_sequence_never_brings_rows_back(order, steps, size):
    wanted = [order[step * size : (step + 1) * size] for step in range(steps)]
    stacked = hf.sequence(DATA, wanted)
    gone = set()
    for step, rows in enumerate(wanted):
        data = stacked.data._replace(weight=stacked.data.weight[step])
        assert active(data) == sorted(set(range(NUM_ROWS)) - gone)
        gone |= set(rows)
        assert stacked.rows[step][: len(rows)].tolist() == list(rows)
    # What is not a weight is shared, not copied.
    assert stacked.data.x is DATA.x and stacked.data.id is DATA.id


def test_a_sequence_pads_to_its_longest():
    stacked = hf.sequence(DATA, [[1], [2, 3, 5]])
    assert stacked.rows.tolist() == [[1, NUM_ROWS, NUM_ROWS], [2, 3, 5]]


def test_a_sequence_takes_requests_made_along_the_way():
    left = DATA.without(jnp.array([0]))
    stacked = hf.sequence(DATA, [[0], hf.forget_classes(left, [0])])
    assert stacked.rows[1].tolist() == [3, 5, 8]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f(DATA, []), "rows is empty"),
        (lambda f: f(DATA, jnp.zeros(0, jnp.int32)), "rows is empty"),
        (lambda f: f(DATA, [3, NUM_ROWS]), r"lie in \[0, 10\), got \[10\]"),
        (lambda f: f(DATA, [3, -1]), r"lie in \[0, 10\), got \[-1\]"),
        (lambda f: f(DATA, [3, 4, 3]), r"must not repeat, got \[3\] twice"),
        (lambda f: f(DATA.without(jnp.array([2])), [2]), r"got \[2\] of weight zero"),
        (lambda f: f(DATA, range(NUM_ROWS)), "all 10 examples.*for everything"),
        (lambda f: f(DATA.without(jnp.arange(2, 10)), [0, 1]), "all 2 examples"),
        (lambda f: f(DATA, [1.5]), "list of integers.*float64"),
        (lambda f: f(DATA, [True, False]), "list of integers.*bool"),
        (lambda f: f(DATA, [[1, 2]]), r"list of integers .*of shape \(1, 2\)"),
        (lambda f: f(DATA, 3), r"list of integers .*of shape \(\)"),
        (lambda f: f(DATA, [1, 2], capacity=1), "capacity=1 is too small.*2 rows"),
        (lambda f: f(DATA, [1], num_classes=2), "num_classes=2 is too small.*label 2"),
    ],
)
def test_forget_rows_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make(hf.forget_rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f(DATA, []), "classes is empty"),
        (lambda f: f(DATA, [3]), r"lie in \[0, 3\), got \[3\]"),
        (lambda f: f(DATA, [-1]), r"lie in \[0, 3\), got \[-1\]"),
        (lambda f: f(DATA, [1, 1]), r"must not repeat, got \[1\] twice"),
        (lambda f: f(DATA, 1), r"list of integers such as \[3\], got 1"),
        (lambda f: f(DATA, [0.0]), r"list of integers such as \[3\], got \[0.0\]"),
        (lambda f: f(DATA, [0, 1, 2]), r"every class there is \(\[0, 1, 2\]\)"),
        (lambda f: f(DATA, jnp.arange(3)), r"every class there is \(\[0, 1, 2\]\)"),
        (
            lambda f: f(DATA, [4], num_classes=5),
            r"forget \[4\], of which data has no ex",
        ),
        (
            lambda f: f(DATA.without(jnp.array([2, 6, 9])), [2]),
            r"forget \[2\], of which data has no example \(forgotten before",
        ),
        (
            lambda f: f(DATA.without(jnp.array([2, 6, 9])), [0, 1]),
            r"every class there is \(\[0, 1\]\)",
        ),
        (lambda f: f(DATA, [0], capacity=3), "capacity=3 is too small.*4 rows"),
        (lambda f: f(DATA, [0], num_classes=2), "num_classes=2 is too small"),
    ],
)
def test_forget_classes_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make(hf.forget_classes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hf.forget_labels([0, 1], 2), "all 2 classes.*for everything"),
        (lambda: hf.forget_labels([], 2), "classes is empty"),
        (lambda: hf.forget_labels([2], 2), r"lie in \[0, 2\), got \[2\]"),
        (
            lambda: hf.forget_where(DATA, lambda data: data.y),
            r"booleans of shape \(10,\), got shape \(10,\) and dtype int32",
        ),
        (lambda: hf.forget_where(DATA, [True]), r"got shape \(1,\)"),
        (lambda: hf.forget_where(DATA, LABELS == 9), "condition holds for 0 of"),
        (lambda: hf.forget_where(DATA, LABELS < 9), "holds for 10 of 10"),
        (
            lambda: hf.forget_random(jax.random.key(0), DATA, 10),
            r"count must lie in \[1, 9\] for 10 examples, got 10",
        ),
        (lambda: hf.forget_random(jax.random.key(0), DATA, 0), "got 0"),
        (
            lambda: hf.forget_each_class(DATA, num_classes=4),
            r"forget \[3\], of which data has no example",
        ),
        (
            lambda: hf.unlearn_sequence(
                weigher(),
                jax.random.split(jax.random.key(0), 1),
                (0,),
                jax.tree.map(lambda leaf: leaf[None], hf.forget_labels([0], 2)),
            ),
            "carry no data: make them with hf.sequence",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()


EACH, SEQUENCE = hf.forget_each_class(DATA), hf.sequence(DATA, [[0], [1], [2]])


@pytest.mark.parametrize(
    ("answer", "requests", "message"),
    [
        (hf.unlearn_each, SEQUENCE, r"\[N\], got shape \(3, 10\).*unlearn_sequence"),
        (hf.unlearn_sequence, EACH, r"\[T, N\], got shape \(10,\).*unlearn_each"),
        *(
            (answer, hf.trees.stack([hf.forget_rows(DATA, [0])] * 3), "one copy of")
            for answer in (hf.unlearn_each, hf.unlearn_sequence)
        ),
    ],
)
def test_what_was_stacked_for_another_function_is_named(answer, requests, message):
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(ValueError, match=message):
        answer(weigher(), keys, (jnp.int32(0),), requests)


def test_a_sequence_is_answered_each_on_its_own_with_the_data_it_was_made_from():
    keys = jax.random.split(jax.random.key(0), 3)
    requests = SEQUENCE._replace(data=DATA)
    states, infos = hf.unlearn_each(weigher(), keys, (jnp.int32(5),), requests)
    assert states[0].tolist() == [6, 6, 6]
    assert infos["retained"].sum(axis=1).tolist() == [NUM_ROWS - 1] * 3


@pytest.mark.parametrize("requests", [EACH, SEQUENCE, SEQUENCE._replace(rows=None)])
@pytest.mark.parametrize(
    "take",
    [
        lambda requests: requests.forget,
        lambda requests: requests.retain,
        lambda requests: requests.covers(DATA),
        lambda requests: requests.split(DATA),
        hf.checks.check_is_request,
        lambda requests: hf.checks.check_is_request(requests, 3),
        # One place of all, as of a stack of whole requests.
        lambda requests: (
            requests._replace(
                rows=requests.rows if requests.rows is None else requests.rows[0],
                classes=requests.classes[0],
                data=SEQUENCE.data,
            ).forget
        ),
    ],
)
def test_several_requests_are_refused_where_a_single_one_is_taken(requests, take):
    with pytest.raises(ValueError, match="must be a single one, got 3, stacked.*hf.se"):
        take(requests)


def test_data_of_a_sequence_make_no_request():
    with pytest.raises(ValueError, match=r"data.weight must be \[10\].*take one"):
        hf.forget_rows(SEQUENCE.data, [1])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "requests is empty"),
        ([[0], [1, 0]], r"request 1 asks for rows \[0\] that are gone"),
        (
            [[0], hf.forget_classes(DATA, [0])],
            r"request 1 asks for rows \[0\] that are gone",
        ),
        ([range(0, 5), range(5, 10)], "cover every example"),
        ([[0], [10]], r"rows must lie in \[0, 10\)"),
        ([[0], hf.forget_labels([1], 3)], "request 1 carries no data"),
        ([hf.forget_each_class(DATA)], r"request 0 is stacked.*\(3, 4\)"),
        # Its padding, row 4, would be an example of DATA.
        ([hf.forget_rows(make_data(LABELS[:4]), [0, 1, 2])], "from other data"),
        (
            [hf.forget_rows(make_data(), [0])],
            "request 0 was made from other data",
        ),
        (
            [[0], hf.forget_rows(DATA, [1], num_classes=5)],
            "request 1 knows 5 classes and the sequence 3",
        ),
    ],
)
def test_sequence_messages(items, message):
    with pytest.raises(ValueError, match=message):
        hf.sequence(DATA, items)


def test_sequence_capacity_message():
    with pytest.raises(ValueError, match="capacity=1 is too small.*2 rows"):
        hf.sequence(DATA, [[0, 1]], capacity=1)


def test_access_knows_its_words():
    access = Access(init=["retain"], unlearn={"forget", "classes"})
    assert access.init == frozenset({"retain"}) and access.before == frozenset()
    assert hash(access) == hash(Access(init={"retain"}, unlearn={"classes", "forget"}))
    with pytest.raises(
        ValueError, match=r"Access.unlearn names \['retains'\]; allowed"
    ):
        Access(unlearn={"retains"})
