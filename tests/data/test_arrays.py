"""Arrays become examples, or the message says which row is wrong and how."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperforget_jax.base import Examples
from hyperforget_jax.checks import check_examples
from hyperforget_jax.data import examples

X = np.zeros((4, 2, 2, 1), np.float32)
Y = np.array([0, 1, 2, 1])


def test_defaults():
    data = examples(X, Y)
    chex.assert_trees_all_equal(data.weight, jnp.ones(4, jnp.int32))
    chex.assert_trees_all_equal(data.id, jnp.arange(4, dtype=jnp.int32))
    chex.assert_trees_all_equal(data.y, jnp.array([0, 1, 2, 1], jnp.int32))
    assert {leaf.dtype for leaf in data[1:]} == {jnp.dtype("int32")}
    assert all(isinstance(leaf, jax.Array) for leaf in data)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, np.ndarray.tolist])
def test_any_kind_of_array(make):
    data = examples(make(X), make(Y), weight=make(np.array([0, 1, 2, 3])))
    chex.assert_trees_all_equal(data.x, jnp.asarray(X))
    assert data.weight.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_floats_keep_their_precision(dtype):
    assert examples(jnp.asarray(X, dtype), Y).x.dtype == dtype


def test_later_changes_of_the_array_do_not_show():
    x, y = X.copy(), Y.copy()
    data = examples(x, y)
    x += 1
    y += 1
    chex.assert_trees_all_equal(data.x, jnp.asarray(X))
    assert data.y.tolist() == Y.tolist()


def test_padding_may_share_an_id_and_be_negative():
    data = examples(X, Y, weight=[1, 0, 1, 0], id=[7, 7, 5, -1])
    assert data.id.tolist() == [7, 7, 5, -1]


@given(st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_ids_are_accepted_exactly_if_distinct(ids):
    if len(set(ids)) == 4:
        assert examples(X, Y, id=ids).id.tolist() == ids
    else:
        with pytest.raises(ValueError, match="must not repeat"):
            examples(X, Y, id=ids)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weight": [1, 1, 1]}, ValueError, r"weight must have shape \(4,\).*\(3,\)"),
        ({"weight": [[1]] * 4}, ValueError, r"weight must have shape \(4,\).*\(4, 1\)"),
        ({"y": Y[:2]}, ValueError, r"y must have shape \(4,\).*got \(2,\)"),
        ({"id": [0]}, ValueError, r"id must have shape \(4,\).*got \(1,\)"),
        ({"weight": [1, -2, 1, 1]}, ValueError, "non-negative, got -2 at row 1"),
        ({"weight": [1, 1, np.nan, 1]}, ValueError, "weight has NaN at row 2"),
        ({"weight": [1.0, -1.0, 1, 1]}, ValueError, "non-negative, got -1.0 at row 1"),
        ({"weight": [0.5, 1, 1, 1]}, TypeError, "weight must be integers.*float64"),
        ({"weight": [0, 0, 0, 0]}, ValueError, "zero everywhere: no example counts"),
        (
            {"weight": [1, 1, 1, 2**32]},
            ValueError,
            "fit int32, got 4294967296 at row 3",
        ),
        ({"y": [0, 1, -1, 1]}, ValueError, "labels non-negative, got -1 at row 2"),
        ({"y": [0.0, 1, 2, 1]}, TypeError, "y must be integers, got dtype float64"),
        ({"num_classes": 2}, ValueError, r"labels in \[0, 2\), got 2 at row 2"),
        ({"x": X.astype(np.uint8)}, TypeError, "x must be floating.*uint8.*data.load"),
        ({"x": X.astype(bool)}, TypeError, "x must be floating point, got dtype bool"),
        ({"x": np.zeros(4)}, ValueError, r"x must be \[N, ...\], got shape \(4,\)"),
        ({"x": np.float32(1)}, ValueError, r"x must be \[N, ...\], got shape \(\)"),
        ({"id": [3, 1, 2, 1]}, ValueError, "not repeat.*got 1 at rows 1 and 3"),
        ({"id": [3, 1, -1, 2]}, ValueError, "id must be non-negative.*got -1 at row 2"),
        ({"id": [0, 1, 2, 2**31]}, ValueError, "fit int32, got 2147483648 at row 3"),
        ({"id": [0.0, 1, 2, 3]}, TypeError, "id must be integers, got dtype float64"),
    ],
)
def test_messages(change, error, message):
    arguments = {"x": X, "y": Y} | change
    with pytest.raises(error, match=message):
        examples(arguments.pop("x"), arguments.pop("y"), **arguments)


# The last is finite in double precision alone.
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_inputs_that_are_not_finite(bad):
    x = X.astype(np.float64)
    x[2, 1, 0, 0] = bad
    with pytest.raises(ValueError, match="x is not finite at row 2"):
        examples(x, Y)


def test_no_rows():
    with pytest.raises(ValueError, match="no example counts"):
        examples(X[:0], Y[:0])


def test_check_examples_wants_examples():
    with pytest.raises(TypeError, match="train must be hf.Examples.*got tuple"):
        check_examples(tuple(examples(X, Y)), name="train")


def test_check_examples_looks_at_shapes_alone_under_a_trace():
    @jax.jit
    def checked(data):
        check_examples(data, num_classes=1)
        return data.y

    data = examples(X, Y)
    assert checked(data).tolist() == Y.tolist()
    with pytest.raises(TypeError, match="weight must be integers"):
        checked(data._replace(weight=jnp.ones(4)))
    with pytest.raises(ValueError, match="y must have shape"):
        checked(Examples(data.x, data.y[:2], data.weight, data.id))
