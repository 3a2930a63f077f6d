"""Labels swapped within pairs of classes: so many of each, and nothing else moves."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperforget_jax as hf
from hyperforget_jax.data import Poisoned, examples, flip_labels

KEY = jax.random.key(3)
NUM_CLASSES = 6
Y = np.random.default_rng(0).permutation(np.repeat(np.arange(NUM_CLASSES), 20))


def make_data(y=Y, **options):
    x = np.random.default_rng(1).normal(size=(len(y), 2)).astype(np.float32)
    return examples(x, y, **options)


DATA = make_data(id=500 + np.arange(Y.size))
# Labels and weights, with two rows at least of every class that count.
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40).map(
    lambda rows: rows + 2 * [(label, 1) for label in range(4)]
)


def partners(poisoned: Poisoned):
    """``{class: labels that its poisoned rows have}``."""
    found = {}
    for row in poisoned.rows.tolist():
        label = int(poisoned.clean_y[row])
        found.setdefault(label, set()).add(int(poisoned.data.y[row]))
    return found


def test_so_many_of_each_class_and_nothing_else_moves():
    poisoned = flip_labels(KEY, DATA, 7)
    chex.assert_trees_all_equal(poisoned.data._replace(y=DATA.y), DATA)
    chex.assert_trees_all_equal(poisoned.clean_y, DATA.y)
    changed = np.flatnonzero(np.asarray(poisoned.data.y) != Y)
    assert poisoned.rows.tolist() == changed.tolist()
    assert np.bincount(Y[poisoned.rows]).tolist() == [7] * NUM_CLASSES
    # Partners swap as many, so no class grows.
    assert np.bincount(poisoned.data.y).tolist() == [20] * NUM_CLASSES


def test_dtypes():
    poisoned = flip_labels(KEY, DATA, 1)
    found = (poisoned.data.y, poisoned.rows, poisoned.clean_y)
    assert all(isinstance(leaf, jax.Array) for leaf in found)
    assert {leaf.dtype for leaf in found} == {jnp.dtype("int32")}


def test_partners_are_mutual_and_nobody_is_its_own():
    found = partners(flip_labels(KEY, DATA, 5))
    assert set(found) == set(range(NUM_CLASSES))
    for label, others in found.items():
        (other,) = others
        assert other != label and found[other] == {label}


def test_pairs_as_given_and_classes_left_out():
    found = partners(flip_labels(KEY, DATA, 20, pairs=[(4, 0), (2, 3)]))
    assert found == {4: {0}, 0: {4}, 2: {3}, 3: {2}}


def test_an_odd_number_of_classes_is_no_matter_where_pairs_are_given():
    data = make_data(np.arange(15) % 3)
    found = partners(flip_labels(KEY, data, 2, pairs=np.array([[0, 2]])))
    assert found == {0: {2}, 2: {0}}


def test_rows_without_weight_are_never_chosen():
    weight = np.random.default_rng(2).integers(0, 3, Y.size)
    data = make_data(weight=weight)
    fewest = np.bincount(Y[weight > 0]).min()
    poisoned = flip_labels(KEY, data, int(fewest))
    assert (weight[poisoned.rows] > 0).all()
    assert np.bincount(Y[poisoned.rows]).tolist() == [fewest] * NUM_CLASSES


def test_the_same_key_gives_the_same_poison_and_another_another():
    first = flip_labels(KEY, DATA, 5)
    chex.assert_trees_all_equal(first, flip_labels(KEY, DATA, 5))
    others = [flip_labels(jax.random.key(seed), DATA, 5) for seed in range(10, 15)]
    assert all(other.rows.tolist() != first.rows.tolist() for other in others)
    assert len({str(partners(other)) for other in others}) > 1


def test_more_of_a_class_are_the_same_and_more():
    few, many = (flip_labels(KEY, DATA, count) for count in (4, 11))
    assert partners(few) == partners(many)
    assert set(few.rows.tolist()) < set(many.rows.tolist())


def test_every_row_and_every_partner_comes_out():
    drawn = [flip_labels(jax.random.key(seed), DATA, 5) for seed in range(60)]
    assert len({row for poisoned in drawn for row in poisoned.rows.tolist()}) == Y.size
    met = {
        (label, *others)
        for poisoned in drawn
        for label, others in partners(poisoned).items()
    }
    assert len(met) == NUM_CLASSES * (NUM_CLASSES - 1)


def test_the_poison_can_be_asked_for():
    poisoned = flip_labels(KEY, DATA, 3)
    request = hf.forget_rows(poisoned.data, poisoned.rows)
    gone = np.flatnonzero(request.retain.weight == 0)
    assert gone.tolist() == poisoned.rows.tolist()


@given(ROWS, st.integers(1, 4), st.integers(0, 5))
def test_any_data(rows, per_class, seed):
    y, weight = np.array(rows).T
    num_classes = int(y.max()) + 1
    counts = np.bincount(y[weight > 0], minlength=num_classes)
    data = make_data(y, weight=weight)
    key = jax.random.key(seed)
    if counts.min() < per_class:
        with pytest.raises(ValueError, match="is more than class"):
            flip_labels(key, data, per_class)
        return
    poisoned = flip_labels(key, data, per_class)
    found = partners(poisoned)
    assert all(found[other] == {label} for label, (other,) in found.items())
    assert (weight[poisoned.rows] > 0).all()
    assert np.bincount(y[poisoned.rows]).tolist() == [per_class] * num_classes
    untouched = np.setdiff1d(np.arange(y.size), poisoned.rows)
    assert (np.asarray(poisoned.data.y)[untouched] == y[untouched]).all()


@pytest.mark.parametrize(
    ("per_class", "options", "message"),
    [
        (0, {}, "per_class must be positive, got per_class=0"),
        (-2, {}, "per_class must be positive, got per_class=-2"),
        (21, {}, r"per_class=21 is more than class \d has: 20 rows"),
        (1, {"num_classes": 7}, "num_classes must be even.*got 7: give pairs="),
        (1, {"num_classes": 8}, "per_class=1 is more than class [67] has: 0 rows"),
        (1, {"num_classes": 2**40}, "num_classes must be at most 2147483647"),
        (1, {"num_classes": 2**30}, "num_classes=.* is more than there are rows, 120"),
        (1, {"pairs": 3}, "must be pairs of labels such as .*got 3"),
        (1, {"num_classes": 4}, r"labels in \[0, 4\)"),
        (1, {"pairs": []}, r"pairs of labels such as \[\(0, 1\).*got \[\]"),
        (1, {"pairs": [(0, 1, 2)]}, r"pairs of labels.*got \[\(0, 1, 2\)\]"),
        (1, {"pairs": [(0, 1), (2,)]}, "must be pairs of labels"),
        (1, {"pairs": [(0, 1.5)]}, "must be pairs of labels"),
        (1, {"pairs": [(0, 6), (-1, 2)]}, r"lie in \[0, 6\), got \[6, -1\]"),
        (1, {"pairs": [(0, 1), (2, 0)]}, r"once at most, got \[0\] more than once"),
        (1, {"pairs": [(3, 3)]}, r"once at most, got \[3\] more than once"),
    ],
)
def test_messages(per_class, options, message):
    with pytest.raises(ValueError, match=message):
        flip_labels(KEY, DATA, per_class, **options)


def test_the_class_with_the_fewest_rows_is_named():
    data = make_data(Y, weight=np.where((Y == 2) & (np.arange(Y.size) > 30), 0, 1))
    count = int(((Y == 2) & (np.arange(Y.size) <= 30)).sum())
    with pytest.raises(ValueError, match=f"more than class 2 has: {count} rows"):
        flip_labels(KEY, data, 15)
    poisoned = flip_labels(KEY, data, 15, pairs=[(0, 1)])
    assert poisoned.rows.shape == (30,)


def test_arguments_of_the_wrong_kind():
    with pytest.raises(TypeError, match="per_class must be a whole number.*1.5"):
        flip_labels(KEY, DATA, 1.5)
    with pytest.raises(TypeError, match="num_classes must be a whole number.*'a'"):
        flip_labels(KEY, DATA, 1, num_classes="a")
    with pytest.raises(TypeError, match="key must be a typed key"):
        flip_labels(jnp.zeros(2, jnp.uint32), DATA, 1)


def test_data_must_be_examples():
    with pytest.raises(TypeError, match="data must be hf.Examples.*got tuple"):
        flip_labels(KEY, tuple(DATA), 1)
