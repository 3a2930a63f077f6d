"""What earlier requests forgot, so that no later one brings it back.

Part of the state of every method that reads examples at a request: whatever weights the
request's data bring, what was forgotten before weighs zero.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Examples, ForgetRequest

__all__ = [
    "Forgotten",
    "check_known",
    "find",
    "nothing_forgotten",
    "recall",
    "remember",
]


class Forgotten(NamedTuple):
    """The ids and classes that were forgotten. It holds no example.

    Attributes:
        id: ids of the training data, int32, ``[N]``, ascending.
        gone: which of them were forgotten, bool, ``[N]``.
        classes: the classes that were forgotten, bool, ``[C]``.
    """

    id: Array
    gone: Array
    classes: Array


def nothing_forgotten(data: Examples, num_classes: int) -> Forgotten:
    """Make the memory of a model that has forgotten nothing yet; reads ids alone."""
    return Forgotten(
        jnp.sort(data.id),
        jnp.zeros(data.id.shape, bool),
        jnp.zeros(num_classes, bool),
    )


def recall(forgotten: Forgotten, request: ForgetRequest) -> tuple[ForgetRequest, Array]:
    """Weigh zero whatever was forgotten before, and whatever nobody could remember.

    Returns:
        The request, and how many rows it asks for that it may not have, int32, ``[]``:
        those whose ids the memory does not know, unless their class goes. They are
        neither forgotten nor retained.
    """
    if request.data is None:
        return request, jnp.zeros((), jnp.int32)
    data = request.data
    place, known = find(forgotten.id, data.id)
    gone = known & forgotten.gone[place] | forgotten.classes[data.y]
    data = data._replace(weight=jnp.where(gone, 0, data.weight))
    request = request._replace(data=data)
    # A row whose id is unknown would be back with the next request: see check_known.
    forget = request.forget
    _, known = find(forgotten.id, forget.id)
    unknown = (forget.weight > 0) & ~(known | request.classes[forget.y])
    refused = jnp.sum(unknown, dtype=jnp.int32)
    if request.rows is None:
        weight = jnp.where(unknown, 0, forget.weight)
        return request._replace(data=forget._replace(weight=weight)), refused
    left = data.without(jnp.where(unknown, request.rows, data.id.shape[0]))
    return request._replace(data=left), refused


def remember(forgotten: Forgotten, request: ForgetRequest) -> Forgotten:
    """Add what a request, as :func:`recall` gave it, forgets to the memory."""
    gone = forgotten.gone
    if request.data is not None:
        forget = request.forget
        place, known = find(forgotten.id, forget.id)
        gone = gone.at[place].max(known & (forget.weight > 0))
    return Forgotten(forgotten.id, gone, forgotten.classes | request.classes)


def check_known(forgotten: Forgotten, request: ForgetRequest) -> None:
    """Raise ValueError unless the memory knows every row that is to go; tracers pass.

    Rows of classes that are asked for need not be known.
    """
    if request.data is None or not checks.is_concrete(forgotten.id, request):
        return
    # By NumPy: under a trace JAX would make tracers of what is concrete.
    y, weight = np.asarray(request.data.y), np.asarray(request.data.weight)
    asked = (weight > 0) & ~np.asarray(request.classes)[y]
    if request.rows is not None:
        rows = np.asarray(request.rows)
        named = np.zeros(y.shape, bool)
        named[rows[(rows >= 0) & (rows < y.size)]] = True
        asked &= named
    ids = np.asarray(request.data.id)[asked]
    unknown = ids[~np.isin(ids, np.asarray(forgotten.id))]
    if unknown.size:
        raise ValueError(
            f"request asks to forget {unknown.size} examples that init was not given, "
            f"such as ids {unknown[:5].tolist()}: nothing could keep them from coming "
            "back. Give init all training data that may ever be asked for, with the "
            "ids that requests use."
        )


def find(known: Array, ids: Array) -> tuple[Array, Array]:
    """Return where in ascending ids others are, and whether they are there.

    Args:
        known: int32, ``[N]``, ascending.
        ids: int32, of any shape; negative ones are nowhere.

    Returns:
        Places in ``known``, any for what is not there, and bool, both like ``ids``.
    """
    place = jnp.minimum(jnp.searchsorted(known, ids), known.shape[0] - 1)
    return place, (known[place] == ids) & (ids >= 0)
