"""Requests: which examples a model is to forget.

A request for nothing, for everything, or for what is not there is refused by name. The
six makers are one file, which is why it is longer than others.
"""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples, ForgetRequest
from hyperforget_jax.checks import check_is_examples, check_labels, check_sizes

__all__ = [
    "forget_classes",
    "forget_examples",
    "forget_labels",
    "forget_random",
    "forget_rows",
    "forget_where",
    "num_classes_of",
    "pad_rows",
]


def forget_rows(
    data: Examples,
    rows: Any,
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """Request to forget single training examples, whatever their class.

    Args:
        data: the training examples at hand, ``[N]``.
        rows: row numbers in ``[0, N)``, each once.
        num_classes: C; by default the largest label plus one.
        capacity: length of the padded ``rows``; by default the next power of two, so
            that requests of similar size share a compilation.
    """
    num_classes = num_classes_of(data, num_classes)
    rows = _integers(rows, "rows", data.y.shape[0])
    weight = np.asarray(data.weight)
    absent = rows[weight[rows] == 0]
    if absent.size:
        raise ValueError(
            f"rows must name examples that are there, got {absent[:5].tolist()} "
            "of weight zero (forgotten before?)."
        )
    if rows.size == np.count_nonzero(weight):
        raise ValueError(
            f"rows names all {rows.size} examples: a request for everything leaves "
            "nothing to retain."
        )
    padded = pad_rows(rows, capacity, data.y.shape[0])
    return ForgetRequest(data, padded, jnp.zeros(num_classes, bool))


def forget_where(
    data: Examples,
    condition: Callable[[Examples], Any] | Any,
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """Request to forget the examples where a condition holds.

    Args:
        data: the training examples at hand, ``[N]``.
        condition: booleans ``[N]``, or a function of ``data`` that gives them.
        num_classes: as for :func:`forget_rows`.
        capacity: likewise.
    """
    check_is_examples(data)
    mask = _array(condition(data) if callable(condition) else condition, "condition")
    if mask.shape != data.y.shape or mask.dtype != bool:
        raise ValueError(
            f"condition must give booleans of shape {data.y.shape}, got "
            f"shape {mask.shape} and dtype {mask.dtype}."
        )
    there = np.asarray(data.weight) > 0
    rows = np.flatnonzero(mask & there)
    if rows.size in (0, np.count_nonzero(there)):
        raise ValueError(
            f"condition holds for {rows.size} of {np.count_nonzero(there)} examples: a "
            "request is for some, and not for nothing or for everything."
        )
    return forget_rows(data, rows, num_classes=num_classes, capacity=capacity)


def forget_random(
    key: Array,
    data: Examples,
    count: int | float,
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """Request to forget ``count`` examples drawn at random, without replacement.

    Args:
        key: a key, consumed. A legacy one is taken too, since rows are drawn on the
            host and under no transformation.
        data: the training examples at hand, ``[N]``.
        count: how many, an integer from one to less than there are; or, as a fraction
            in (0, 1), which share of them, rounded to the nearest count.
        num_classes: as for :func:`forget_rows`.
        capacity: likewise.
    """
    check_is_examples(data)
    active = np.flatnonzero(np.asarray(data.weight) > 0)
    if isinstance(count, bool) or not isinstance(count, numbers.Real):
        raise TypeError(
            "count must be a number of examples, or a fraction of them in (0, 1); got "
            f"{count!r}."
        )
    wanted = count
    if not isinstance(count, numbers.Integral):
        if not 0 < count < 1:
            raise ValueError(
                "count must be an integer, or a fraction in (0, 1) of the examples; "
                f"got {count}."
            )
        wanted = round(float(count) * active.size)
    if not 0 < wanted < active.size:
        raise ValueError(
            f"count must lie in [1, {active.size - 1}] for {active.size} examples, "
            f"got {count}."
        )
    shuffled = np.asarray(jax.random.permutation(_any_key(key), active))
    rows = np.sort(shuffled[:wanted])
    return forget_rows(data, rows, num_classes=num_classes, capacity=capacity)


def forget_classes(
    data: Examples,
    classes: Sequence[int],
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """Request to forget whole classes: every row of them, wherever found.

    Args:
        data: the training examples at hand, ``[N]``.
        classes: labels in ``[0, C)``.
        num_classes: C; by default the largest label plus one.
        capacity: length of the padded rows; by default the number of requested
            classes times the size of the largest class, so that any such request
            shares a compilation.

    Examples:
        >>> import hyperforget_jax as hf
        >>> data = hf.data.examples([[0.0], [1.0], [2.0], [3.0]], [0, 1, 1, 2])
        >>> request = hf.forget_classes(data, [1])
        >>> request.rows.tolist(), request.classes.tolist()
        ([1, 2], [False, True, False])
        >>> request.forget.y.tolist(), request.retain.weight.tolist()
        ([1, 1], [1, 0, 0, 1])
    """
    num_classes = num_classes_of(data, num_classes)
    chosen = _class_mask(classes, num_classes)
    y, active = np.asarray(data.y), np.asarray(data.weight) > 0
    counts = np.bincount(y[active], minlength=num_classes)
    missing = np.flatnonzero(chosen & (counts == 0))
    if missing.size:
        raise ValueError(
            f"classes asks to forget {missing.tolist()}, of which data has no example "
            "(forgotten before?)."
        )
    rows = np.flatnonzero(chosen[y] & active)
    if rows.size == np.count_nonzero(active):
        raise ValueError(
            f"classes names every class there is ({np.flatnonzero(chosen).tolist()}): "
            "a request for everything leaves nothing to retain."
        )
    if capacity is None:
        # Counted over all rows, so that a class's capacity outlives earlier requests.
        capacity = int(chosen.sum()) * int(np.bincount(y).max())
    return ForgetRequest(data, pad_rows(rows, capacity, y.size), jnp.asarray(chosen))


def forget_examples(
    examples: Examples,
    *,
    num_classes: int,
    classes: Sequence[int] = (),
    capacity: int | None = None,
) -> ForgetRequest:
    """Request to forget examples that the request brings, with no other data at hand.

    For methods that read nothing else, such as :func:`hyperforget_jax.pgu` after the
    training data were thrown away. One that asks for retained data refuses it.

    Args:
        examples: the training examples to forget, ``[N]``, with the ids that they had.
        num_classes: C.
        classes: the classes that go, if the examples are all that there were of them.
        capacity: length of the padded examples; by default the next power of two.
    """
    num_classes = num_classes_of(examples, num_classes)
    rows = np.flatnonzero(np.asarray(examples.weight) > 0)
    if not rows.size:
        raise ValueError("examples are none: the request asks to forget nothing.")
    chosen = np.zeros(num_classes, bool)
    if _array(classes, "classes").size:
        chosen = _class_mask(classes, num_classes)
        others = np.unique(np.asarray(examples.y)[rows])
        others = others[~chosen[others]]
        if others.size:
            raise ValueError(
                f"examples must be of the classes {list(classes)} alone, got "
                f"{others.tolist()} too."
            )
    padded = pad_rows(rows, capacity, examples.y.shape[0])
    return ForgetRequest(examples.take(padded), None, jnp.asarray(chosen))


def forget_labels(classes: Sequence[int], num_classes: int) -> ForgetRequest:
    """Request to forget classes, with no data, for methods that read labels alone.

    A method that needs examples says so at trace time.

    Args:
        classes: labels in ``[0, num_classes)``.
        num_classes: C.
    """
    chosen = _class_mask(classes, num_classes)
    if chosen.all():
        raise ValueError(
            f"classes names all {num_classes} classes: a request for everything "
            "leaves nothing to retain."
        )
    return ForgetRequest(None, jnp.zeros(0, jnp.int32), jnp.asarray(chosen))


def num_classes_of(data: Examples, num_classes: int | None) -> int:
    """Return C, by default the largest label plus one; raise unless labels fit it."""
    check_is_examples(data)
    y = np.asarray(data.y)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or not y.size:
        raise TypeError(
            f"data.y must be integer labels [N], got shape {y.shape} and dtype "
            f"{y.dtype}: make data with hf.data.examples(x, y)."
        )
    if data.weight.shape != y.shape:
        raise ValueError(
            f"data.weight must be [{y.size}], one an example, got shape "
            f"{data.weight.shape}: of what hf.sequence or a population has, take one."
        )
    check_labels(y, None, "data")
    largest = int(y.max())
    if num_classes is None:
        return largest + 1
    check_sizes(num_classes=num_classes)
    if largest >= num_classes:
        raise ValueError(
            f"num_classes={num_classes} is too small: data has the label {largest}."
        )
    return num_classes


def _class_mask(classes: Sequence[int], num_classes: int) -> np.ndarray:
    check_sizes(num_classes=num_classes)
    mask = np.zeros(num_classes, bool)
    mask[_integers(classes, "classes", num_classes)] = True
    return mask


def _integers(given: Any, name: str, size: int) -> np.ndarray:
    """Return distinct integers in ``[0, size)``, at least one, or raise."""
    array = _array(given, name)
    # An empty list has the dtype float64.
    is_integer = array.size == 0 or np.issubdtype(array.dtype, np.integer)
    if array.ndim != 1 or not is_integer:
        raise ValueError(
            f"{name} must be a list of integers such as [3], got {given!r:.80}, of "
            f"shape {array.shape} and dtype {array.dtype} (a mask is for forget_where)."
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty: the request asks to forget nothing.")
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        raise ValueError(f"{name} must lie in [0, {size}), got {outside[:5].tolist()}.")
    unique, counts = np.unique(array, return_counts=True)
    if unique.size < array.size:
        raise ValueError(
            f"{name} must not repeat, got {unique[counts > 1][:5].tolist()} twice."
        )
    return array


def _array(given: Any, name: str) -> np.ndarray:
    """Make an array; ragged lists and the like are refused by name."""
    try:
        return np.asarray(given)
    except Exception as error:  # Arrays of other libraries raise what they like.
        raise ValueError(
            f"{name} must be a list of integers, got {given!r}."
        ) from error


def _any_key(key: Any) -> Array:
    """Return a typed key, also of a legacy one, since draws here are the host's."""
    is_key = isinstance(key, jax.Array) and key.shape == ()
    if is_key and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    words = jax.random.key_data(jax.random.key(0)).shape
    if isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32:
        if key.shape == words:
            return jax.random.wrap_key_data(jnp.asarray(key))
    raise TypeError(f"key must be a key such as jax.random.key(0), got {key!r}.")


def pad_rows(rows: np.ndarray, capacity: int | None, num_rows: int) -> Array:
    """Pad row numbers with one that is out of range; to a power of two if None."""
    if capacity is None:
        capacity = 1 << (rows.size - 1).bit_length()
    check_sizes(capacity=capacity)
    if rows.size > capacity:
        raise ValueError(
            f"capacity={capacity} is too small for a request of {rows.size} rows."
        )
    padded = np.full(capacity, num_rows, np.int32)
    padded[: rows.size] = rows
    return jnp.asarray(padded)
