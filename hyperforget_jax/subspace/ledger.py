"""Which examples are in a sum, so that none is taken out twice."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Examples

__all__ = ["Ledger", "check_held", "ledger_of", "order_of", "places", "strike"]


class Ledger(NamedTuple):
    """The ids that were summed, and how often each still is.

    Attributes:
        id: int32, ``[N]``, ascending.
        weight: int32, ``[N]``; zero for what was taken out, and for padding.
    """

    id: Array
    weight: Array


def ledger_of(data: Examples) -> Ledger:
    """The ledger of a sum over examples.

    Args:
        data: what was summed, ``[N]``.

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
    order = order_of(data)
    return Ledger(data.id[order], data.weight[order])


def order_of(data: Examples) -> Array:
    """The rows in the order of their ledger, int32, ``[N]``.

    Args:
        data: as for :func:`ledger_of`.
    """
    # Among rows of one id, the one that counts comes first: padding shares id -1.
    return jnp.lexsort((-data.weight, data.id))


def places(ledger: Ledger, examples: Examples) -> Array:
    """Where in the ledger examples are, int32, ``[F]``; anywhere if they are not.

    Args:
        ledger: what is in.
        examples: ``[F]`` of them.
    """
    place = jnp.searchsorted(ledger.id, examples.id)
    return jnp.minimum(place, ledger.id.shape[0] - 1)


def strike(ledger: Ledger, examples: Examples) -> tuple[Ledger, Examples, Array]:
    """Takes examples out, each as often as it is still in.

    Args:
        ledger: what is in.
        examples: what to take out, ``[F]``.

    Returns:
        The ledger without them; the same examples, those that are not in (any more, or
        that often) weightless; and how many those are, int32, ``[]``.
    """
    place = places(ledger, examples)
    known = ledger.id[place] == examples.id
    asked = jnp.where(known, examples.weight, 0)
    total = jnp.zeros_like(ledger.weight).at[place].add(asked)
    held = known & (total[place] <= ledger.weight[place])
    weight = jnp.where(held, examples.weight, 0)
    refused = jnp.sum((examples.weight > 0) & ~held, dtype=jnp.int32)
    left = ledger.weight.at[place].add(-weight)
    return Ledger(ledger.id, left), examples._replace(weight=weight), refused


def check_held(ledger: Ledger, examples: Examples) -> None:
    """Raise unless examples can be taken out; under a trace it cannot tell.

    Of a request that names some that are out already the others can be: those that
    were are weighed zero, and counted.

    Args:
        ledger: what is in.
        examples: what is to be taken out, ``[F]``.

    Raises:
        ValueError: examples that were never added, or that were all taken out before.
    """
    if not checks.is_concrete(ledger, examples.id, examples.weight):
        return
    _, taken, refused = jax.device_get(strike(ledger, examples))
    if not refused:
        return
    wrong = (np.asarray(examples.weight) > 0) & (taken.weight == 0)
    ids = np.asarray(examples.id)[wrong]
    never = ids[~np.isin(ids, np.asarray(ledger.id))]
    if not never.size and taken.weight.any():
        return
    shown = ", ".join(map(str, (never if never.size else ids)[:5]))
    why = "were never added" if never.size else "were taken out before"
    raise ValueError(
        f"{refused} of the examples to forget are not in the Gram matrices: ids {shown}"
        f"{', ...' if refused > 5 else ''} {why}. Ask only for what the data held when "
        "they were prepared, and only once."
    )
