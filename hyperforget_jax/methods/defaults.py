"""Warnings where a method's defaults are used far from what they were chosen for."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Examples, ForgetRequest
from hyperforget_jax.user_warnings import warn_user

__all__ = ["count_of", "is_share_below", "warn_of_driven_out", "warn_of_few_rows"]

# A class is more, where there are not very many.
_LEAST_SHARE = 0.025


def warn_of_driven_out(
    method: str,
    classes: Array,
    forget: Examples,
    weight: Array,
    instead: str = "Give held-out examples, probe=, where rows are to go",
) -> None:
    """Warn of right labels that are driven out, if single rows are asked for.

    Args:
        method: its name.
        classes: those asked for, bool, ``[C]``. Under a trace they cannot be seen: then
            few rows are taken for such a request.
        forget: the examples to forget.
        weight: of all data, ``[N]``.
        instead: what to do.
    """
    if checks.is_concrete(classes):
        for_rows = not np.asarray(classes).any()
    else:
        for_rows = is_share_below(_LEAST_SHARE, forget, jnp.sum(weight), weight.size)
    if for_rows:
        warn_user(
            f"{method}: the labels of single rows are driven out altogether, which is "
            "right for wrong labels, and otherwise at the cost of all rows like them. "
            f"{instead}. Requests for classes are not concerned.",
        )


def warn_of_few_rows(
    method: str,
    request: ForgetRequest,
    *,
    steps: int,
    batch_size: int,
    chosen_at: tuple[int, int, int],
) -> None:
    """Warn where so few rows are to go that each would be pushed out very often.

    Args:
        method: its name.
        request: for the examples to forget. Under a trace their weights cannot be seen,
            and the padded length counts.
        steps: minibatches.
        batch_size: rows of each.
        chosen_at: the default steps and batch size, of which alone there is a warning,
            and for how many rows to forget they were chosen.
    """
    rows = count_of(request.forget)
    most, least = "", ""
    if not checks.is_concrete(request.forget.weight):
        most, least = "at most ", "at least "
    *default, usual = chosen_at
    if [steps, batch_size] == default and 0 < rows < usual / 4:
        warn_user(
            f"{method}: the defaults were chosen for about {usual} rows to forget, "
            f"and here are {most}{rows}: each is drawn {least}"
            f"{steps * batch_size / rows:.0f} times by steps={steps}, "
            f"batch_size={batch_size}, which may leave them answered worse than unseen "
            "rows are. Give fewer steps, and look at info.change and "
            "at the membership attack of hf.evaluate.",
        )


def is_share_below(
    least: float, forget: Examples, total_weight: Any, num_rows: int
) -> bool:
    """Tell whether a request is for less than a share of the data, as far as is seen.

    Args:
        least: the share.
        forget: the examples to forget. Under a trace their weights cannot be seen, and
            half of them count, since padding to a power of two may be the other half.
        total_weight: of all data, ``[]``.
        num_rows: how many these are, which counts where weights cannot be seen.
    """
    if not checks.is_concrete(forget.weight, total_weight):
        return jnp.shape(forget.weight)[-1] / 2 < least * num_rows
    return 0 < np.asarray(forget.weight).sum() < least * float(total_weight)


def count_of(examples: Examples) -> int:
    """Count the examples that weigh something; all, where that cannot be seen."""
    if not checks.is_concrete(examples.weight):
        return int(jnp.shape(examples.weight)[-1])
    return int(np.count_nonzero(np.asarray(examples.weight)))
