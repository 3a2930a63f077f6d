"""How much a model's answer on an example hangs on having seen it."""

from typing import NamedTuple

import numpy as np

from hyperforget_jax.audits.pool import IN, OUT, Pool

__all__ = ["Memorisation", "memorisation", "most_memorised"]


class Memorisation(NamedTuple):
    """Scores of leaving an example out.

    Attributes:
        score: in [-1, 1], float64, ``[M]``; near one for what is learnt by heart.
        standard_error: over models, ``[M]``.
    """

    score: np.ndarray
    standard_error: np.ndarray


def memorisation(pool: Pool) -> Memorisation:
    """Compute how much likelier an example's label is to models trained with it.

    The mean probability of the label over IN models, less that over OUT models. Feldman
    and Zhang take the share of models that are right, of which this is the smooth
    version: it needs fewer models, and no other logits. A score below two standard
    errors says nothing.

    Args:
        pool: with at least two IN and two OUT models for every example.

    Raises:
        ValueError: too few models.

    References:
        Feldman and Zhang, What neural networks memorize and why, arXiv 2008.03703,
        2020, equation 1.
    """
    pool.check_enough(2, IN, OUT)
    (mean_in, error_in), (mean_out, error_out) = (
        _mean(pool.probability, pool.is_(world)) for world in (IN, OUT)
    )
    # No model is in both means, which are independent.
    return Memorisation(mean_in - mean_out, np.hypot(error_in, error_out))


def most_memorised(pool: Pool, count: int) -> np.ndarray:
    """Return which examples have the largest scores, the largest first, ``[count]``.

    They are places in the pool's examples. Scores of chosen examples are too large by
    the choice: to report them, take them from other models.

    Args:
        pool: as for :func:`memorisation`.
        count: in [1, M].
    """
    most = pool.phi.shape[1]
    if not 1 <= count <= most:
        raise ValueError(f"count must be in [1, {most}], got {count}.")
    return np.argsort(-memorisation(pool).score, kind="stable")[:count]


def _mean(values: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a mask ``[K, M]`` over models, and its standard error."""
    count = there.sum(axis=0)
    mean = np.where(there, values, 0).sum(axis=0) / count
    squares = np.where(there, (values - mean) ** 2, 0).sum(axis=0)
    return mean, np.sqrt(squares / (count - 1) / count)
