"""How a request comes to be, alone, many at once, or one after another."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperforget_jax.base import Array, Examples, ForgetRequest, Unlearner
from hyperforget_jax.checks import (
    check_arrays,
    check_is,
    check_is_examples,
    check_key,
    check_sizes,
)

__all__ = [
    "forget_classes",
    "forget_each_class",
    "forget_examples",
    "forget_labels",
    "forget_random",
    "forget_rows",
    "forget_where",
    "sequence",
    "unlearn_each",
    "unlearn_sequence",
]


def forget_rows(
    data: Examples,
    rows: Any,
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """A request to forget single training examples, whatever their class.

    Args:
        data: the training examples at hand, ``[N]``.
        rows: row numbers in ``[0, N)``, each once.
        num_classes: C; by default the largest label in ``data`` plus one.
        capacity: length of the padded ``rows``; by default the next power of two, so
            that requests of similar size share a compilation.

    Raises:
        ValueError: no rows, rows out of range, weightless or repeated, or nothing left.
    """
    num_classes = _num_classes(data, num_classes)
    num_rows = data.y.shape[0]
    rows = _array(rows, "rows")
    # An empty list has the dtype float64.
    if rows.ndim != 1 or not (rows.size == 0 or np.issubdtype(rows.dtype, np.integer)):
        raise ValueError(
            f"rows must be a list of integers, got shape {rows.shape} and "
            f"dtype {rows.dtype} (a mask is for forget_where)."
        )
    if rows.size == 0:
        raise ValueError("rows is empty: the request asks to forget nothing.")
    outside = rows[(rows < 0) | (rows >= num_rows)]
    if outside.size:
        raise ValueError(
            f"rows must lie in [0, {num_rows}), got {outside[:5].tolist()}."
        )
    repeated = _repeated(rows)
    if repeated.size:
        raise ValueError(f"rows must not repeat, got {repeated[:5].tolist()} twice.")
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
    if capacity is None:
        capacity = 1 << (rows.size - 1).bit_length()
    return ForgetRequest(
        data, _pad(rows, capacity, num_rows), jnp.zeros(num_classes, bool)
    )


def forget_where(
    data: Examples, condition: Callable[[Examples], Any] | Any, **options: Any
) -> ForgetRequest:
    """A request for the examples where a condition holds.

    Args:
        data: the training examples at hand, ``[N]``.
        condition: booleans ``[N]``, or a function of ``data`` that gives them.
        **options: as for :func:`forget_rows`.
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
    return forget_rows(data, rows, **options)


def forget_random(
    key: Array, data: Examples, count: int | float, **options: Any
) -> ForgetRequest:
    """Request ``count`` examples drawn at random, without replacement.

    Args:
        key: a key, consumed. A legacy one is taken too, since rows are drawn on the
            host and under no transformation.
        data: the training examples at hand, ``[N]``.
        count: how many, an integer from one to less than there are; or, as a fraction
            in (0, 1), which share of them, rounded to the nearest count.
        **options: as for :func:`forget_rows`.

    Raises:
        TypeError, ValueError: ``count`` is neither, or names none or all of them; and
            as for :func:`forget_rows`.
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
    return forget_rows(data, np.sort(shuffled[:wanted]), **options)


def forget_classes(
    data: Examples,
    classes: Sequence[int],
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """A request to forget whole classes: every row of them, wherever found.

    Args:
        data: the training examples at hand, ``[N]``.
        classes: labels in ``[0, C)``.
        num_classes: C; by default the largest label in ``data`` plus one.
        capacity: length of the padded rows; by default the number of requested
            classes times the size of the largest class, so that any such request
            shares a compilation.

    Raises:
        ValueError: no class, an unknown, absent or repeated class, or all of them.
    """
    num_classes = _num_classes(data, num_classes)
    chosen = _class_mask(classes, num_classes)
    y, weight = np.asarray(data.y), np.asarray(data.weight)
    active = weight > 0
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
    return ForgetRequest(data, _pad(rows, capacity, y.size), jnp.asarray(chosen))


def forget_examples(
    examples: Examples,
    *,
    num_classes: int,
    classes: Sequence[int] = (),
    capacity: int | None = None,
) -> ForgetRequest:
    """A request that brings what is to be forgotten, and no other data.

    For methods that read nothing else, such as :func:`hyperforget_jax.pgu` after the
    training data were thrown away. One that asks for retained data refuses it.

    Args:
        examples: the training examples to forget, ``[N]``, with the ids that they had.
        num_classes: C.
        classes: the classes that go, if the examples are all that there were of them.
        capacity: length of the padded examples; by default the next power of two.

    Raises:
        ValueError: no examples, labels out of range, or examples of other classes than
            those named.
    """
    num_classes = _num_classes(examples, num_classes)
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
    if capacity is None:
        capacity = 1 << (rows.size - 1).bit_length()
    padded = _pad(rows, capacity, examples.y.shape[0])
    return ForgetRequest(examples.take(padded), None, jnp.asarray(chosen))


def forget_labels(classes: Sequence[int], num_classes: int) -> ForgetRequest:
    """A class request that carries no data, for methods that read labels alone.

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


def forget_each_class(
    data: Examples, *, num_classes: int | None = None
) -> ForgetRequest:
    """One request for every class, stacked: for :func:`unlearn_each`.

    Args:
        data: the training examples at hand, ``[N]``.
        num_classes: C; by default the largest label in ``data`` plus one.

    Returns:
        A request with rows ``[C, F]``, classes ``[C, C]`` and one copy of ``data``.
    """
    num_classes = _num_classes(data, num_classes)
    requests = [
        forget_classes(data, [label], num_classes=num_classes)
        for label in range(num_classes)
    ]
    rows, classes = zip(*(request[1:] for request in requests), strict=True)
    return ForgetRequest(data, jnp.stack(rows), jnp.stack(classes))


def sequence(
    data: Examples,
    requests: Sequence[Any],
    *,
    num_classes: int | None = None,
    capacity: int | None = None,
) -> ForgetRequest:
    """Requests one after another, stacked: for :func:`unlearn_sequence`.

    The data of each request already weigh zero for everything forgotten before, so
    that a second request never brings the first one's rows back. Inputs are not
    copied: x, y and id are shared, and only the weights are stacked.

    Args:
        data: the training examples at hand before the first request, ``[N]``.
        requests: at least one; each a list of row numbers, or a request made from
            ``data``.
        num_classes: C; by default the largest label in ``data`` plus one.
        capacity: length of the padded rows; by default that of the longest request.

    Returns:
        A request with weight ``[T, N]``, rows ``[T, F]`` and classes ``[T, C]``.

    Raises:
        ValueError: no requests, a request that was not made from ``data``, a row that
            was forgotten before, or nothing left at the end.
    """
    num_classes = _num_classes(data, num_classes)
    check_is(
        (Sequence, np.ndarray, jax.Array),
        "a list of requests or of row numbers",
        requests=requests,
    )
    if getattr(requests, "ndim", 1) == 0:
        raise TypeError(f"requests must be a list, got the single value {requests}.")
    if not len(requests):
        raise ValueError("requests is empty: a sequence needs at least one.")
    num_rows = data.y.shape[0]
    weight = np.array(data.weight)
    weights, rows, classes = [], [], []
    for step, request in enumerate(requests):
        if not isinstance(request, ForgetRequest):
            try:
                request = forget_rows(data, request, num_classes=num_classes)
            except ValueError as error:
                raise ValueError(f"requests[{step}]: {error}") from error
        _check_made_from(data, request, num_classes, step)
        wanted = np.asarray(request.rows)
        wanted = wanted[(wanted >= 0) & (wanted < num_rows)]
        gone = wanted[weight[wanted] == 0]
        if gone.size:
            raise ValueError(
                f"request {step} asks for rows {gone[:5].tolist()} that are gone: "
                "an earlier request of the sequence forgot them."
            )
        weights.append(weight.copy())
        weight[wanted] = 0
        rows.append(wanted)
        classes.append(np.asarray(request.classes))
    if not weight.any():
        raise ValueError(
            "requests cover every example: a sequence for everything leaves nothing."
        )
    if capacity is None:
        capacity = max(len(wanted) for wanted in rows)
    return ForgetRequest(
        data._replace(weight=jnp.asarray(np.stack(weights))),
        jnp.stack([_pad(wanted, capacity, num_rows) for wanted in rows]),
        jnp.asarray(np.stack(classes)),
    )


def unlearn_each(
    unlearner: Unlearner, keys: Array, state: Any, requests: ForgetRequest
) -> tuple[Any, Any]:
    """Answers stacked requests independently: a ``vmap`` with one copy of the data.

    Args:
        unlearner: the method.
        keys: typed keys, ``[R]``.
        state: one state, from which every answer starts.
        requests: stacked as by :func:`forget_each_class`.

    Returns:
        States and infos, stacked ``[R, ...]``.
    """
    _check_stacked(
        unlearner, keys, state, requests, "unlearn_each", "hf.forget_each_class"
    )
    stacked: Any = 0
    axes = ForgetRequest(data=None, rows=stacked, classes=stacked)
    return jax.vmap(unlearner.unlearn, (0, None, axes))(keys, state, requests)


def unlearn_sequence(
    unlearner: Unlearner, keys: Array, state: Any, requests: ForgetRequest
) -> tuple[Any, Any]:
    """Answers stacked requests one after another: a ``lax.scan`` over ``unlearn``.

    Args:
        unlearner: the method.
        keys: typed keys, ``[T]``.
        state: the state before the first request.
        requests: stacked as by :func:`sequence`.

    Returns:
        The states after every request, stacked ``[T, ...]``, and the infos. The last
        state is ``jax.tree.map(lambda leaf: leaf[-1], states)``.
    """
    _check_stacked(unlearner, keys, state, requests, "unlearn_sequence", "hf.sequence")
    data = requests.data
    if data is None:
        raise ValueError("requests carry no data: make them with hf.sequence.")

    def step(state, inputs):
        key, weight, rows, classes = inputs
        request = ForgetRequest(data._replace(weight=weight), rows, classes)
        state, info = unlearner.unlearn(key, state, request)
        return state, (state, info)

    inputs = (keys, data.weight, requests.rows, requests.classes)
    return lax.scan(step, state, inputs)[1]


def _check_stacked(
    unlearner: Unlearner,
    keys: Array,
    state: Any,
    requests: ForgetRequest,
    function: str,
    maker: str,
) -> None:
    check_is(Unlearner, "a hf.Unlearner, such as hf.ssd gives", unlearner=unlearner)
    check_key(keys, "keys", shape=None)
    check_arrays(state=state)
    check_is(ForgetRequest, f"what {maker} gives", requests=requests)
    if requests.rows is None:
        raise ValueError(
            "requests bring their own examples (forget_examples), which are answered "
            f"one by one: make stacked ones with {maker}."
        )
    if requests.rows.ndim != 2 or jnp.shape(keys) != requests.rows.shape[:1]:
        raise ValueError(
            f"{function} takes requests stacked by {maker} and one key for each; got "
            f"rows of shape {requests.rows.shape} and keys of shape {jnp.shape(keys)}."
        )


def _check_made_from(
    data: Examples, request: ForgetRequest, num_classes: int, step: int
) -> None:
    """Row numbers and padding mean nothing outside the data they were made for."""
    if request.data is None:
        raise ValueError(
            f"request {step} carries no data (made by forget_labels), so a sequence "
            "cannot tell which rows it forgets: use forget_classes."
        )
    if request.rows is None:
        raise ValueError(
            f"request {step} brings its own examples (forget_examples), and a sequence "
            "takes requests made from data: use forget_rows or forget_classes."
        )
    if request.rows.ndim != 1:
        raise ValueError(
            f"request {step} is stacked (rows of shape {request.rows.shape}): a "
            "sequence takes single requests."
        )
    if not np.array_equal(request.data.id, data.id):
        raise ValueError(
            f"request {step} was made from other data: its ids are not those of data."
        )
    if request.classes.shape != (num_classes,):
        raise ValueError(
            f"request {step} knows {request.classes.shape[0]} classes and the sequence "
            f"{num_classes}: give num_classes= to both."
        )


def _num_classes(data: Examples, num_classes: int | None) -> int:
    check_is_examples(data)
    y = np.asarray(data.y)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or not y.size:
        raise TypeError(
            f"data.y must be integer labels [N], got shape {y.shape} and dtype "
            f"{y.dtype}: make data with hf.data.examples(x, y)."
        )
    if y.min() < 0:
        raise ValueError(
            f"data.y must hold labels from 0 on, got {y.min()} at row {y.argmin()}."
        )
    largest = int(y.max())
    if num_classes is None:
        return largest + 1
    check_sizes(num_classes=num_classes)
    if largest >= num_classes:
        raise ValueError(
            f"num_classes={num_classes} is too small: data has the label {largest}."
        )
    return int(num_classes)


def _class_mask(classes: Sequence[int], num_classes: int) -> np.ndarray:
    check_sizes(num_classes=num_classes)
    labels = _array(classes, "classes")
    if labels.ndim != 1 or not (
        labels.size == 0 or np.issubdtype(labels.dtype, np.integer)
    ):
        raise ValueError(
            f"classes must be a list of integers such as [3], got {classes!r}."
        )
    if labels.size == 0:
        raise ValueError("classes is empty: the request asks to forget nothing.")
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if unknown.size:
        raise ValueError(
            f"classes must lie in [0, {num_classes}), got {unknown.tolist()}."
        )
    if _repeated(labels).size:
        raise ValueError(f"classes must not repeat, got {labels.tolist()}.")
    mask = np.zeros(num_classes, bool)
    mask[labels] = True
    return mask


def _repeated(values: np.ndarray) -> np.ndarray:
    unique, counts = np.unique(values, return_counts=True)
    return unique[counts > 1]


def _array(given: Any, name: str) -> np.ndarray:
    """What was given as an array; ragged lists and the like are refused by name."""
    try:
        return np.asarray(given)
    except Exception as error:  # Arrays of other libraries raise what they like.
        raise ValueError(
            f"{name} must be a list of integers, got {given!r}."
        ) from error


def _any_key(key: Any) -> Array:
    """A typed key, also of a legacy one: what is drawn here is drawn on the host."""
    is_key = isinstance(key, jax.Array | np.ndarray) and (
        key.shape == () and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    )
    if is_key:
        return key
    if (
        isinstance(key, jax.Array | np.ndarray)
        and key.dtype == np.uint32
        and key.shape == jax.random.key_data(jax.random.key(0)).shape
    ):
        return jax.random.wrap_key_data(jnp.asarray(key))
    raise TypeError(f"key must be a key such as jax.random.key(0), got {key!r}.")


def _pad(rows: np.ndarray, capacity: int, num_rows: int) -> Array:
    check_sizes(capacity=capacity)
    if rows.size > capacity:
        raise ValueError(
            f"capacity={capacity} is too small for a request of {rows.size} rows."
        )
    padded = np.full(capacity, num_rows, np.int32)
    padded[: rows.size] = rows
    return jnp.asarray(padded)
