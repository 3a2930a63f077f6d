"""What counted errors prove: lower bounds of epsilon."""

from typing import Any

import numpy as np
from scipy import optimize, special, stats

from hyperforget_jax import checks

__all__ = [
    "epsilon_bound",
    "epsilon_ceiling",
    "held_out_bound",
    "one_run_bound",
]


def epsilon_bound(
    false_positives: int,
    negatives: int,
    false_negatives: int,
    positives: int,
    *,
    delta: float = 0.0,
    level: float = 0.95,
) -> float:
    """Compute a lower bound of epsilon from the errors of one rule.

    The rule must have been fixed before its errors were counted: see
    :func:`held_out_bound`. If the two worlds were ``(epsilon, delta)``-near, so small
    errors would be found in less than ``1 - level`` of all cases.

    Args:
        false_positives: of the negatives.
        negatives: how many there were.
        false_negatives: of the positives.
        positives: how many there were.
        delta: in [0, 1).
        level: of the bound.

    References:
        Kairouz et al., The composition theorem for differential privacy, arXiv
        1311.0776, 2015; Clopper and Pearson, 1934.
    """
    # Both inequalities follow from the same two rates, each of which may fail at half.
    tail = (1 - level) / 2
    fpr = _upper(false_positives, negatives, tail)
    fnr = _upper(false_negatives, positives, tail)
    return max(0.0, _log_ratio(1 - fnr - delta, fpr), _log_ratio(1 - fpr - delta, fnr))


def epsilon_ceiling(
    positives: int, negatives: int, *, delta: float = 0.0, level: float = 0.95
) -> float:
    """Return the bound that so many trials give at the most, without any error."""
    return epsilon_bound(0, negatives, 0, positives, delta=delta, level=level)


def held_out_bound(
    positive: np.ndarray,
    negative: np.ndarray,
    *,
    seed: int = 0,
    delta: float = 0.0,
    level: float = 0.95,
) -> float:
    """Compute a lower bound of epsilon, the threshold chosen on one half of the scores.

    Args:
        positive: scores of positives, independent of each other (one a model),
            ``[P]``; large ones speak for positives.
        negative: of negatives, ``[Q]``.
        seed: of the halves.
        delta: in [0, 1).
        level: of the bound.

    Raises:
        ValueError: less than four scores a side, or scores that are not finite.
    """
    checks.check_seed(seed)
    draw = np.random.default_rng(seed)
    halves = []
    for name, side in (("positive", positive), ("negative", negative)):
        side = np.asarray(side, np.float64)
        if side.ndim != 1 or side.size < 4:
            raise ValueError(
                f"{name} must be [P], at least 4 scores, got shape {side.shape}."
            )
        if not np.isfinite(side).all():
            # No comparison with NaN is an error, and would count for the bound.
            raise ValueError(f"{name} must be finite.")
        order = draw.permutation(side)
        halves.append((order[: side.size // 2], order[side.size // 2 :]))
    (chosen_p, held_p), (chosen_n, held_n) = halves

    def errors(threshold, p, n):
        return int(np.sum(n >= threshold)), n.size, int(np.sum(p < threshold)), p.size

    values = np.unique(np.concatenate([chosen_p, chosen_n]))
    thresholds = np.append((values[:-1] + values[1:]) / 2, values[-1])
    # By the bound itself, which knows how many scores there are.
    best = max(
        thresholds,
        key=lambda at: epsilon_bound(
            *errors(at, chosen_p, chosen_n), delta=delta, level=level
        ),
    )
    return epsilon_bound(*errors(best, held_p, held_n), delta=delta, level=level)


def one_run_bound(
    right: int, guesses: int, canaries: int, *, delta: float = 0.0, level: float = 0.95
) -> float:
    """Compute a lower bound of epsilon from one run with canaries.

    Each canary was in or out by a fair coin; the auditor guesses some and abstains on
    the others. Guesses and their rule must be fixed before looking.

    Args:
        right: guesses that were right.
        guesses: how many were made.
        canaries: how many there were.
        delta: in [0, 1).
        level: of the bound.

    Raises:
        ValueError: numbers that do not fit each other.

    References:
        Steinke, Nasr and Jagielski, Privacy auditing with one (1) training run, arXiv
        2305.08846, 2023, theorem 5.2.
    """
    if not 0 <= right <= guesses <= canaries or guesses < 1:
        raise ValueError(
            "right <= guesses <= canaries must hold with at least one guess, got "
            f"{right}, {guesses} and {canaries}."
        )

    def excess(epsilon):
        likely = special.expit(epsilon)
        beta = stats.binom.sf(right - 1, guesses, likely)
        if delta:
            i = np.arange(1, right + 1)
            more = stats.binom.sf(right - i - 1, guesses, likely) - beta
            beta = min(1.0, beta + 2 * canaries * delta * np.max(more / i, initial=0.0))
        return beta - (1 - level)

    if excess(0.0) > 0:
        return 0.0
    root: Any = optimize.brentq(excess, 0.0, 50.0, xtol=1e-9)
    return float(root)


def _upper(k: int, n: int, tail: float) -> float:
    """The one-sided upper end of a probability from k of n."""
    return 1.0 if k >= n else float(stats.beta.isf(tail, k + 1, n - k))


def _log_ratio(numerator: float, denominator: float) -> float:
    return float(np.log(numerator / denominator)) if numerator > 0 else 0.0
