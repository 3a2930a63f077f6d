"""Arrays as validated examples: the door that all data come in by."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples
from hyperforget_jax.checks import check_examples, check_sizes

__all__ = ["examples"]


def examples(
    x: Any,
    y: Any,
    *,
    weight: Any = None,
    id: Any = None,
    num_classes: int | None = None,
) -> Examples:
    """NumPy or JAX arrays as examples; for the host, not for use under ``jit``.

    Args:
        x: inputs, floating point, ``[N, ...]``; integers other than uint8 for models
            that look them up.
        y: labels, integers, ``[N]``.
        weight: how often each row counts, integers, ``[N]``; by default 1.
        id: the examples' names, integers, ``[N]``; by default 0 to N-1. Rows that
            count need names of their own, from 0 up, and two splits that are used
            together must not share any: a request for single rows covers every
            example with the same id, wherever it is found.
        num_classes: C, where it is known: labels must be smaller.

    Returns:
        Examples with ``y``, ``weight`` and ``id`` as int32. NumPy arrays are copied.

    Raises:
        TypeError: bytes as inputs, or labels, weights or ids that are not integers.
        ValueError: wrong shapes, negative or NaN weights, labels out of range,
            non-finite inputs, no example that counts, or ids that are negative or
            repeated where the weight is not zero.
    """
    if num_classes is not None:
        check_sizes(num_classes=num_classes)
    # Before the checks: a large float64 becomes infinite as float32.
    x = x if isinstance(x, jax.Array) else jnp.array(x)
    y = np.asarray(y)
    num_rows = x.shape[0] if x.ndim else 0
    weight = np.ones(num_rows, np.int32) if weight is None else np.asarray(weight)
    id = np.arange(num_rows, dtype=np.int32) if id is None else np.asarray(id)
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
        row = int(outside.argmax())
        raise ValueError(
            f"data.{field} must fit int32, got {values[row]} at row {row}."
        )
    # Cast by NumPy: JAX would compile the cast for every length.
    return jnp.array(values.astype(np.int32))
