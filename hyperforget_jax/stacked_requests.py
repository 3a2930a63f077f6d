"""Many requests as one: answered one after another, or side by side."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperforget_jax.base import Array, Examples, ForgetRequest, Unlearner
from hyperforget_jax.checks import check_arrays, check_is, check_key
from hyperforget_jax.requests import (
    forget_classes,
    forget_rows,
    num_classes_of,
    pad_rows,
)

__all__ = ["forget_each_class", "sequence", "unlearn_each", "unlearn_sequence"]


def forget_each_class(
    data: Examples, *, num_classes: int | None = None
) -> ForgetRequest:
    """Request to forget every class on its own, stacked: for :func:`unlearn_each`.

    Args:
        data: the training examples at hand, ``[N]``.
        num_classes: C; by default the largest label plus one.

    Returns:
        A request with rows ``[C, F]``, classes ``[C, C]`` and one copy of ``data``.
    """
    num_classes = num_classes_of(data, num_classes)
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
    """Stack requests that come one after another: for :func:`unlearn_sequence`.

    The data of each request already weigh zero for everything forgotten before, so
    that a second request never brings the first one's rows back. Inputs are not
    copied: x, y and id are shared, and only the weights are stacked.

    Args:
        data: the training examples at hand before the first request, ``[N]``.
        requests: at least one; each a list of row numbers, or a request made from
            ``data``.
        num_classes: C; by default the largest label plus one.
        capacity: length of the padded rows; by default that of the longest request.

    Returns:
        A request with weight ``[T, N]``, rows ``[T, F]`` and classes ``[T, C]``.
    """
    num_classes = num_classes_of(data, num_classes)
    kinds = (Sequence, np.ndarray, jax.Array)
    check_is(kinds, "a list of requests or of row numbers", requests=requests)
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
        jnp.stack([pad_rows(wanted, capacity, num_rows) for wanted in rows]),
        jnp.asarray(np.stack(classes)),
    )


def unlearn_each(
    unlearner: Unlearner, keys: Array, state: Any, requests: ForgetRequest
) -> tuple[Any, Any]:
    """Answer stacked requests independently: a ``vmap`` with one copy of the data.

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
    data = requests.data
    if data is not None and data.weight.ndim != 1:
        raise ValueError(
            "unlearn_each answers from one state with the same data: "
            f"requests.data.weight must be [N], got shape {data.weight.shape}, one for "
            "each request, as hf.sequence makes them. Answer those with "
            "hf.unlearn_sequence; or, each on its own, give requests._replace(data="
            "data), of the data that hf.sequence was given."
        )
    stacked: Any = 0
    axes = ForgetRequest(data=None, rows=stacked, classes=stacked)
    return jax.vmap(unlearner.unlearn, (0, None, axes))(keys, state, requests)


def unlearn_sequence(
    unlearner: Unlearner, keys: Array, state: Any, requests: ForgetRequest
) -> tuple[Any, Any]:
    """Answer stacked requests one after another: a ``lax.scan`` over ``unlearn``.

    Args:
        unlearner: the method.
        keys: typed keys, ``[T]``.
        state: the state before the first request.
        requests: stacked as by :func:`sequence`.

    Returns:
        The states after every request, stacked ``[T, ...]``, and the infos. The last
        state is ``hf.trees.take(states, -1)``.
    """
    _check_stacked(unlearner, keys, state, requests, "unlearn_sequence", "hf.sequence")
    data = requests.data
    if data is None:
        raise ValueError("requests carry no data: make them with hf.sequence.")
    if data.weight.ndim != 2:
        raise ValueError(
            "unlearn_sequence leaves out what earlier requests forgot: "
            f"requests.data.weight must be [T, N], got shape {data.weight.shape}, the "
            "same for all. Answer what hf.forget_each_class makes with "
            "hf.unlearn_each; or make a sequence with hf.sequence(data, ["
            "hf.forget_classes(data, [0]), ...])."
        )

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
    if requests.data is not None and requests.data.y.ndim != 1:
        raise ValueError(
            f"{function} takes one copy of the examples: requests.data.y must be [N], "
            f"got shape {requests.data.y.shape}. Stack requests with {maker}."
        )


def _check_made_from(
    data: Examples, request: ForgetRequest, num_classes: int, step: int
) -> None:
    """Raise for other data, in which row numbers and padding mean nothing."""
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
