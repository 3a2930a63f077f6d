"""Which examples are in a sum, so that none is taken out twice."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Examples
from hyperforget_jax.forgotten import find

__all__ = ["Included", "check_included", "include", "remove"]


class Included(NamedTuple):
    """The ids that were summed, and how often each still is.

    Attributes:
        id: int32, ``[N]``, ascending.
        weight: int32, ``[N]``; zero for what was taken out, and for padding.
    """

    id: Array
    weight: Array


def include(data: Examples) -> tuple[Included, Array]:
    """List the examples of a sum, and the rows of ``data`` in that order, ``[N]``.

    Raises:
        ValueError: two rows of one id that both count, where values can be seen.
    """
    if checks.is_concrete(data.id, data.weight):
        ids = np.asarray(data.id)[np.asarray(data.weight) > 0]
        unique, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"data.id must name every example once, got id {unique[counts > 1][0]} "
                f"in {counts.max()} rows: an example that counts twice has weight 2."
            )
    # Among rows of one id, the one that counts comes first: padding shares id -1.
    order = jnp.lexsort((-data.weight, data.id))
    return Included(data.id[order], data.weight[order]), order


def remove(included: Included, examples: Examples) -> tuple[Included, Examples, Array]:
    """Take examples ``[F]`` out, each as often as it is still in.

    Returns:
        What is left; the same examples, those that are not in (any more, or that often)
        weightless; and how many those are, int32, ``[]``.
    """
    place, known = find(included.id, examples.id)
    asked = jnp.where(known, examples.weight, 0)
    total = jnp.zeros_like(included.weight).at[place].add(asked)
    held = known & (total[place] <= included.weight[place])
    weight = jnp.where(held, examples.weight, 0)
    refused = jnp.sum((examples.weight > 0) & ~held, dtype=jnp.int32)
    left = included.weight.at[place].add(-weight)
    return Included(included.id, left), examples._replace(weight=weight), refused


def check_included(included: Included, examples: Examples) -> None:
    """Raise unless examples can be taken out; under a trace it cannot tell.

    Of a request that names some that are out already the others can be: those that
    were are weighed zero, and counted.

    Raises:
        ValueError: examples that were never added, or that were all taken out before.
    """
    if not checks.is_concrete(included, examples.id, examples.weight):
        return
    _, taken, refused = jax.device_get(remove(included, examples))
    if not refused:
        return
    wrong = (np.asarray(examples.weight) > 0) & (taken.weight == 0)
    ids = np.asarray(examples.id)[wrong]
    never = ids[~np.isin(ids, np.asarray(included.id))]
    if not never.size and taken.weight.any():
        return
    shown = ", ".join(map(str, (never if never.size else ids)[:5]))
    why = "were never added" if never.size else "were taken out before"
    raise ValueError(
        f"{refused} of the examples to forget are not in the Gram matrices: ids {shown}"
        f"{', ...' if refused > 5 else ''} {why}. Ask only for what the data held when "
        "they were prepared, and only once."
    )
