"""Warnings where a method's defaults are used far from what they were chosen for."""

import warnings

import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Examples

__all__ = ["count_of", "warn_of_few_rows"]


def warn_of_few_rows(
    method: str,
    forget: Examples,
    *,
    steps: int,
    batch_size: int,
    chosen_at: tuple[int, int, int],
) -> None:
    """Warn where so few rows are to go that each would be pushed out very often.

    Args:
        method: its name.
        forget: the examples to forget. Under a trace their weights cannot be seen, and
            the padded length counts.
        steps: minibatches.
        batch_size: rows of each.
        chosen_at: the default steps and batch size, of which alone there is a warning,
            and for how many rows to forget they were chosen.
    """
    rows = count_of(forget)
    *default, usual = chosen_at
    if [steps, batch_size] == default and 0 < rows < usual / 4:
        warnings.warn(
            f"{method}: the defaults were chosen for about {usual} rows to forget, "
            f"and here are {rows}: each is drawn {steps * batch_size / rows:.0f} times "
            f"by steps={steps}, batch_size={batch_size}, which may leave them answered "
            "worse than unseen rows are. Give fewer steps, and look at info.change and "
            "at the membership attack of hf.evaluate.",
            stacklevel=5,
        )


def count_of(examples: Examples) -> int:
    """Count the examples that weigh something; all, where that cannot be seen."""
    if not checks.is_concrete(examples.weight):
        return int(jnp.shape(examples.weight)[-1])
    return int(np.count_nonzero(np.asarray(examples.weight)))
