"""Arrays become examples, or the message says which row is wrong and how."""

import hashlib

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
    assert np.all(np.diff(data.id) == 1) and data.id[0] >= 0
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
            "fit int32.*got 4294967296",
        ),
        ({"y": [0, 1, -1, 1]}, ValueError, "labels non-negative, got -1 at row 2"),
        ({"num_classes": 2}, ValueError, r"labels in \[0, 2\), got 2 at row 2"),
        ({"weight": ["a"] * 4}, TypeError, "weight must be integers, got dtype <U1"),
        ({"id": [None] * 4}, TypeError, "id must be integers, got dtype object"),
        ({"x": X.astype(np.uint8)}, TypeError, "x must be floating.*uint8.*data.load"),
        ({"x": X + 0j}, TypeError, "x must be floating point, got dtype complex64"),
        ({"x": np.full((4, 2), 2**31)}, ValueError, "x must fit int32, got 2147483648"),
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


# What people have for labels, and the line that the message must offer for it.
LABELS = {
    "from one": (Y + 1, {"num_classes": 3}, "count from 1", "y - 1"),
    "one-hot": (
        np.eye(3, dtype=int)[Y],
        {},
        r"y must have shape \(4,\)",
        "y.argmax(-1)",
    ),
    "soft": (np.eye(3)[Y], {}, "one-hot", "y.argmax(-1)"),
    "a column": (Y[:, None], {}, r"got \(4, 1\)", "y[:, 0]"),
    "names": (np.array(["a", "b", "c", "b"]), {}, "dtype <U1", "NUMBER"),
    "objects": (np.array(["a", "b", None, "b"]), {}, "dtype object", None),
    "bytes": (np.array([b"a", b"b", b"c", b"b"]), {}, r"dtype \|S1", "NUMBER"),
    "written": (Y.astype(str), {}, "dtype <U21", "np.asarray(y).astype(int)"),
    "boxed": (Y.astype(object), {}, "dtype object", "np.asarray(y).astype(int)"),
    "booleans": (Y > 0, {}, "dtype bool", "np.asarray(y).astype(int)"),
    "whole floats": (Y.astype(float), {}, "dtype float64", "y.astype(int)"),
    "halves": (Y / 2, {}, "dtype float64", "NUMBER"),
    "signs": (np.array([-1, 1, -1, 1]), {}, "non-negative, got -1 at row 0", "NUMBER"),
    "gaps": (Y * 10, {"num_classes": 3}, "got 10 at row 1", "NUMBER"),
    "times": (np.zeros(4, "datetime64[s]"), {}, "dtype datetime64", "NUMBER"),
}
NUMBER = "np.unique(y, return_inverse=True)[1]"


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_refused_with_the_line_that_mends_them(kind):
    y, options, message, line = LABELS[kind]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        examples(X, y, **options)
    line = NUMBER if line in ("NUMBER", None) else line
    assert f"`{line}`" in str(caught.value)
    if kind == "objects":
        return  # NumPy does not sort None beside strings: nobody has numbers for it.
    mended = eval(line, {"np": np, "y": y})
    assert set(examples(X, mended, **options).y.tolist()) <= {0, 1, 2}


def test_ragged_rows_and_things_that_are_no_arrays():
    for x in ([[1.0], [1.0, 2.0]], None, {"a": 1}, "text", object()):
        with pytest.raises(TypeError, match="data.x must be"):
            examples(x, Y)
    with pytest.raises(TypeError, match="data.y must be an array"):
        jax.jit(lambda y: examples(X, y))(jnp.asarray(Y))


def test_masked_entries():
    with pytest.raises(ValueError, match=r"x has 16 masked entries.*x.filled\(0\)"):
        examples(np.ma.masked_less(X, 1), Y)
    with pytest.raises(ValueError, match="y has 1 masked entries"):
        examples(X, np.ma.masked_equal(Y, 0))
    whole = examples(np.ma.masked_less(X, -1), np.ma.masked_equal(Y, 7))
    chex.assert_trees_all_equal(whole, examples(X, Y))


KINDS = {
    "big-endian": lambda x: x.astype(">f4"),
    "long doubles": lambda x: x.astype(np.longdouble),
    "doubles": lambda x: x.astype(np.float64),
    "a view": lambda x: np.ascontiguousarray(x.T).T,
    "read-only": lambda x: np.broadcast_to(x, x.shape),
    "lists": np.ndarray.tolist,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", ["uint8", "uint64", ">i4", "int16"])
def test_numbers_of_any_layout_are_the_same_examples(kind, labels):
    x = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    expected = examples(x, Y)
    chex.assert_trees_all_equal(examples(KINDS[kind](x), Y.astype(labels)), expected)


def test_files_mapped_into_memory(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    chex.assert_trees_all_equal(examples(mapped, Y), examples(X, Y))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16", ">i8"])
def test_tokens_stay_integers(dtype):
    tokens = np.arange(12).reshape(4, 3)
    for x in (tokens.astype(dtype), jnp.asarray(tokens)):
        data = examples(x, Y)
        assert data.x.dtype == jnp.int32
        assert data.x.tolist() == tokens.tolist()


def test_ids_by_default_are_the_inputs_own():
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    data = examples(x, Y)
    # Whatever their labels, weights and layout, in this process and in any other.
    again = examples(jnp.asarray(x).reshape(4, 2, 3), Y[::-1], weight=[1, 0, 2, 1])
    assert again.id.tolist() == data.id.tolist()
    first = int.from_bytes(hashlib.sha256(x.tobytes()).digest()[:8], "little")
    first %= 2**31 - 4
    assert data.id.tolist() == list(range(first, first + 4))
    assert not set(data.id.tolist()) & set(examples(x + 1, Y).id.tolist())


def test_stretches_of_ids_meet_as_seldom_as_is_said():
    """Of 300 splits of 1000 rows, a pair meets with probability 1000 / 2**30."""
    rng = np.random.default_rng(0)
    ids = [
        examples(rng.normal(size=(1000, 1)), np.zeros(1000, int)).id[np.array([0, -1])]
        for _ in range(300)
    ]
    begin, end = np.sort(np.array(ids), axis=0).T
    assert begin.min() >= 0 and end.max() < 2**31
    meetings = np.count_nonzero(begin[1:] <= end[:-1])
    # 44850 pairs: 0.042 meetings are expected, and three have a chance of 1e-5.
    assert meetings < 3
    # Spread over all of the space: the mean of 300 uniforms, within five deviations.
    assert abs(begin.mean() / 2**31 - 0.5) < 5 / np.sqrt(12 * 300)


def test_ids_that_are_given_are_kept():
    assert examples(X, Y, id=[5, 2**31 - 1, 0, 3]).id.tolist() == [5, 2**31 - 1, 0, 3]


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
