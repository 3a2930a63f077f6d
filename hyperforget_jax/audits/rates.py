"""How well scores separate two worlds, with intervals over models."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from hyperforget_jax import checks

__all__ = ["Rates", "bootstrap", "rates", "tpr_at"]


class Rates(NamedTuple):
    """How well scores tell positives from negatives.

    Attributes:
        auc: area under the ROC curve, ties counted half.
        accuracy: the mean of both rates of right decisions at threshold zero.
        tpr: rate of true positives by rate of false positives, None where there are
            too few negatives to resolve it.
        positives: how many positive scores there are.
        negatives: how many negative ones.
    """

    auc: float
    accuracy: float
    tpr: dict[float, float | None]
    positives: int
    negatives: int


def rates(
    positive: np.ndarray,
    negative: np.ndarray,
    levels: tuple[float, ...] = (0.01, 0.001),
) -> Rates:
    """Compute what scores tell, large ones speaking for positives.

    Args:
        positive: scores of positives, any shape; NaN are left out.
        negative: scores of negatives, likewise.
        levels: rates of false positives at which that of true positives is wanted.

    Raises:
        ValueError: no scores of one side.
    """
    positive, negative = (
        np.asarray(side, np.float64)[~np.isnan(side)] for side in (positive, negative)
    )
    if not positive.size or not negative.size:
        raise ValueError(
            f"Both sides need scores, got {positive.size} positive and "
            f"{negative.size} negative ones."
        )
    # By ranks: intervals and tests ask thousands of times, and the checks of
    # scikit-learn cost ten times as much.
    ranks = rankdata(np.concatenate([positive, negative]))[: positive.size]
    above = ranks.sum() - positive.size * (positive.size + 1) / 2
    right = (np.mean(positive > 0), np.mean(negative < 0))
    # Undecided cases are right in half of all cases.
    undecided = (np.mean(positive == 0), np.mean(negative == 0))
    return Rates(
        float(above / positive.size / negative.size),
        float((sum(right) + sum(undecided) / 2) / 2),
        {level: tpr_at(level, positive, negative) for level in levels},
        positive.size,
        negative.size,
    )


def tpr_at(level: float, positive: np.ndarray, negative: np.ndarray) -> float | None:
    """Return the rate of true positives at a rate of false positives.

    Nothing is interpolated: of all thresholds that do not exceed the level, the best.

    Args:
        level: rate of false positives, in (0, 1).
        positive: scores of positives.
        negative: scores of negatives.

    Returns:
        The rate, or None if there are less than ``1 / level`` negatives.
    """
    if negative.size * level < 1:
        return None
    truth = np.repeat([1, 0], [positive.size, negative.size])
    false, true, _ = roc_curve(
        truth, np.concatenate([positive, negative]), drop_intermediate=False
    )
    return float(true[false <= level].max())


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    models: int,
    *,
    seed: int = 0,
    repeats: int = 200,
    level: float = 0.95,
) -> tuple[float, float]:
    """Compute an interval of a statistic by drawing models with replacement.

    Examples of one model are not independent, so models are drawn and not scores.
    Attack first, and draw among the rows of the scores that came out: a fit to drawn
    models would judge one that was drawn twice by its own copy.

    Args:
        statistic: ``rows -> value`` for model numbers ``[models]``, each drawn any
            number of times; NaN where a draw lacks one world.
        models: how many there are.
        seed: of the draws.
        repeats: draws.
        level: of the interval.

    Returns:
        The lower and the upper end.
    """
    checks.check_seed(seed)
    draw = np.random.default_rng(seed)
    values = [statistic(draw.integers(models, size=models)) for _ in range(repeats)]
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
