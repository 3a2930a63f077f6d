"""Examples from arrays, validated: all data come in here."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples
from hyperforget_jax.checks import check_examples, check_sizes

__all__ = ["examples"]

_NUMBER_THEM = "number them, `np.unique(y, return_inverse=True)[1]`"


def examples(
    x: Any,
    y: Any,
    *,
    weight: Any = None,
    id: Any = None,
    num_classes: int | None = None,
) -> Examples:
    """Validate NumPy or JAX arrays as examples; on the host, not under ``jit``.

    Rows that count need ids of their own, and two splits that are used together must
    not share any: a request for single rows covers every example with the same id,
    wherever it is found, and :func:`hyperforget_jax.evaluate` refuses test examples
    that have ids of training examples. The default ids follow one another from a
    place in ``[0, 2**31)`` that the bytes of ``x`` decide. So the same inputs have the
    same ids whenever they come in, whatever their labels, and other inputs have
    others: two splits of N rows meet by accident once in ``2**30 / N`` pairs, which
    is then said, and ``id=`` mends it. Part of an array is another array: where rows
    are to keep their names, use :meth:`hyperforget_jax.Examples.take`, or give them.

    Args:
        x: inputs, ``[N, ...]``: floating point, or integers where they are tokens.
        y: labels, integers from 0, ``[N]``.
        weight: how often each row counts, integers, ``[N]``; by default 1.
        id: the examples' names, integers from 0 up, ``[N]``; by default as above.
        num_classes: C, where it is known: labels must be smaller.

    Returns:
        Examples with ``y``, ``weight`` and ``id`` as int32, and ``x`` in its floating
        type (float64 as JAX has it, which is float32 by default) or as int32. NumPy
        arrays are copied.

    Raises:
        TypeError: inputs that are no numbers, that are bytes (as pixels are before
            they are normalised) or booleans; labels, weights or ids that are no
            integers.
        ValueError: wrong shapes, negative or NaN weights, labels out of range,
            non-finite inputs, masked entries, no example that counts, or ids that are
            negative or repeated where the weight is not zero.
    """
    if num_classes is not None:
        check_sizes(num_classes=num_classes)
    x = _inputs(x)
    num_rows = x.shape[0] if x.ndim else 0
    y = _labels(y, num_rows)
    weight = (
        np.ones(num_rows, np.int32) if weight is None else _numbers("weight", weight)
    )
    id = _default_ids(x, num_rows) if id is None else _numbers("id", id)
    # Checked as given: once cast to int32, NaN and 2**32 would be numbers like others.
    given: Any = (x, y, weight, id)
    check_examples(Examples(*given), num_classes=num_classes)
    _check_ids(id, weight)
    return Examples(
        x,
        _int32("y", y),
        _int32("weight", weight),
        _int32("id", id),
    )


def _inputs(x: Any) -> Array:
    if not isinstance(x, jax.Array):
        x = _on_host("x", x)
        if x.dtype.kind in "iuf":
            # JAX has neither the longest floats nor the other order of bytes.
            wide = x.dtype.kind == "f" and x.dtype.itemsize > 8
            x = x.astype(np.float64 if wide else x.dtype.newbyteorder("="), copy=False)
    if x.dtype == np.uint8:
        raise TypeError(
            "data.x must be floating point, or int32 where it holds tokens, got dtype "
            "uint8: normalise pixels first, `x.astype(np.float32) / 255` (hf.data.load "
            "does); tokens are `x.astype(np.int32)`."
        )
    if jnp.issubdtype(x.dtype, jnp.integer):
        return _int32("x", np.asarray(x))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"data.x must be floating point, got dtype {x.dtype}: "
            "`x.astype(np.float32)`, or np.stack(x) where every row is an array."
        )
    # A large float64 becomes infinite as float32: that is to be seen by the checks.
    return x if isinstance(x, jax.Array) else jnp.array(x)


def _labels(y: Any, num_rows: int) -> np.ndarray:
    """Return the labels as given, or raise with the line that makes labels of them."""
    y = _on_host("y", y)
    if y.dtype.kind not in "iuf":
        mend = _NUMBER_THEM
        if y.dtype.kind == "b" or _are_written_numbers(y):
            mend = "`np.asarray(y).astype(int)`"
        raise TypeError(f"data.y must be integers, got dtype {y.dtype}: {mend}.")
    if y.ndim == 2 and y.shape[0] == num_rows:
        one_hot = y.shape[1] > 1
        raise ValueError(
            f"data.y must have shape ({num_rows},), one label a row, got {y.shape}: "
            + ("one-hot labels are `y.argmax(-1)`." if one_hot else "`y[:, 0]`.")
        )
    if y.dtype.kind == "f":
        whole = np.isfinite(y).all() and (y == np.floor(y)).all()
        mend = "`y.astype(int)`" if whole else f"if they are classes, {_NUMBER_THEM}"
        raise TypeError(f"data.y must be integers, got dtype {y.dtype}: {mend}.")
    return y


def _are_written_numbers(y: np.ndarray) -> bool:
    if y.dtype.kind not in "OUS":
        return False
    try:
        y.astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _numbers(field: str, values: Any) -> np.ndarray:
    array = _on_host(field, values)
    if array.dtype.kind not in "iuf" and array.size:
        raise TypeError(f"data.{field} must be integers, got dtype {array.dtype}.")
    return array


def _on_host(field: str, values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        holes = np.ma.getmaskarray(values)
        if holes.any():
            raise ValueError(
                f"data.{field} has {holes.sum()} masked entries: fill them, "
                f"`{field}.filled(0)`, or leave their rows out."
            )
        values = values.data
    try:
        return np.asarray(values)
    except Exception as error:
        raise TypeError(
            f"data.{field} must be an array, got {type(values).__name__}, of which "
            f"NumPy makes none: {error}"
        ) from error


def _default_ids(x: Array, num_rows: int) -> np.ndarray:
    """Number the rows, from a place that is the inputs' own.

    By their bytes alone: images are the same examples when they are laid out flat.
    """
    raw = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    place = int.from_bytes(hashlib.sha256(raw.data).digest()[:8], "little")
    first = place % (2**31 - num_rows)
    return np.arange(first, first + num_rows, dtype=np.int64)


def _check_ids(id: np.ndarray, weight: np.ndarray) -> None:
    rows = np.flatnonzero(weight)
    named = id[rows]
    if (named < 0).any():
        row = rows[(named < 0).argmax()]
        raise ValueError(
            f"data.id must be non-negative where the weight is not zero, got {id[row]} "
            f"at row {row}: negative ids are padding, which no request covers."
        )
    order = np.argsort(named, kind="stable")
    again = np.flatnonzero(np.diff(named[order]) == 0)
    if again.size:
        first, second = rows[order[again[0] : again[0] + 2]]
        raise ValueError(
            f"data.id must not repeat where the weight is not zero, got {id[first]} at "
            f"rows {first} and {second}."
        )


def _int32(field: str, values: np.ndarray) -> Array:
    limits = np.iinfo(np.int32)
    outside = (values < limits.min) | (values > limits.max)
    if outside.any():
        row = np.argwhere(outside)[0].tolist()[:1] or [0]
        raise ValueError(
            f"data.{field} must fit int32, got {values[outside].flat[0]} at row "
            f"{row[0]}."
        )
    # Cast by NumPy: JAX would compile the cast for every length.
    return jnp.array(values.astype(np.int32))
