"""Train, probe and test: three sets of rows that share none."""

from typing import NamedTuple

import numpy as np

from hyperforget_jax.base import Examples

__all__ = ["Splits", "stratified_split"]


class Splits(NamedTuple):
    """A data set in three disjoint parts, with ids that are disjoint too.

    Attributes:
        train: what classifiers are trained on, and what can be forgotten.
        probe: held out of training, to label checkpoints, choose samples or stop.
        test: held out of everything but the final figures.
    """

    train: Examples
    probe: Examples
    test: Examples


def stratified_split(
    y: np.ndarray, fraction: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a part out of rows, class by class in proportion.

    Args:
        y: labels, integers, ``[N]``.
        fraction: how much to cut out, in (0, 1).
        seed: which cut.

    Returns:
        Row numbers of the rest and of the part cut out, each in ascending order. The
        part holds ``fraction`` of every class to within one row, and both hold at
        least one row of every class.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    y = np.asarray(y)
    labels, counts = np.unique(y, return_counts=True)
    if (counts == 1).any():
        raise ValueError(
            f"class {labels[counts.argmin()]} has a single row: it cannot be cut."
        )
    sizes = _sizes(counts, fraction)
    # Raw bits, because NumPy promises them to be the same in every release, and its
    # permutations not: ids must mean the same examples for ever.
    shuffle = np.random.PCG64(seed).random_raw(y.size)
    by_class = np.lexsort((shuffle, y))
    place_in_class = np.arange(y.size) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(y.size, bool)
    chosen[by_class] = place_in_class < np.repeat(sizes, counts)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _sizes(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Round down, and give the rest to the classes that lost most."""
    exact = fraction * counts
    sizes = np.floor(exact).astype(int)
    left_over = int(np.rint(exact.sum())) - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:left_over]] += 1
    return np.clip(sizes, 1, counts - 1)
