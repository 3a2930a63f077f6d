"""Classes merged: the group for a label, the label kept, and a part asked for."""

import chex
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.data import examples, merge_classes

Y = np.array([3, 0, 1, 2, 3, 0])
DATA = examples(np.arange(12, dtype=np.float32).reshape(6, 2), Y)


def test_labels_are_the_groups_and_sub_labels_are_kept():
    merged = merge_classes(DATA, [(0, 3), (2,), (1, 9)])
    assert merged.data.y.tolist() == [0, 0, 2, 1, 0, 0]
    assert merged.subclass.tolist() == Y.tolist()
    assert merged.data.y.dtype == merged.subclass.dtype == np.int32
    chex.assert_trees_all_equal(merged.data._replace(y=DATA.y), DATA)


def test_a_part_of_a_class_can_be_asked_for():
    merged = merge_classes(DATA, [(0, 3), (1, 2)])
    request = hf.forget_where(merged.data, merged.subclass == 3, num_classes=2)
    # The class stays, by its other part.
    assert request.rows.tolist() == [0, 4] and not np.asarray(request.classes).any()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "must be groups of labels such as"),
        (3, "must be groups of labels such as .* got 3"),
        ([(0, 1), ()], "must be groups of labels"),
        ([(0, 1.5)], "must be groups of labels"),
        ([0, 1], "must be groups of labels"),
        ([(0, -1)], "must be groups of labels"),
        ([(0, 1), (1, 2, 3)], r"once at most, got \[1\] more than once"),
        ([(0, 1), (2,)], r"every label of data, \[3\] are in none"),
    ],
)
def test_messages(groups, message):
    with pytest.raises(ValueError, match=message):
        merge_classes(DATA, groups)
