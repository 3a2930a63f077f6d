"""The forgetting score of the NeurIPS 2023 unlearning challenge."""

from typing import NamedTuple

import numpy as np

__all__ = ["ForgettingScore", "example_epsilons", "forgetting_score"]

_DELTA = 1e-5
_CAP = 50.0
_PER_UNIT = 100
_BUFFER = 2.0
_PEAKED = 0.01


class ForgettingScore(NamedTuple):
    """How near unlearned models are to retrained ones, by the challenge's rules.

    Attributes:
        score: mean of the examples' points, in [0, 1]; one is not reached: compare
            with retrained models scored against retrained ones, at the same number.
        epsilons: what each example's best attack shows, ``[M]``, in [0, 50].
    """

    score: float
    epsilons: np.ndarray


def forgetting_score(unlearned: np.ndarray, retrained: np.ndarray) -> ForgettingScore:
    """Score unlearned models against retrained ones.

    An example whose best rule shows ``epsilon`` earns ``2 ** -floor(2 epsilon)``
    points, and none from ``ceil(log(N - 1))`` on, which N models cannot show. Choosing
    and judging the rule on the same models makes epsilon too large: it is no bound.

    Args:
        unlearned: logit-scaled confidences of N models, ``[N, M]``.
        retrained: of as many retrained ones, ``[N, M]``.

    References:
        Triantafillou et al., Are we making progress in unlearning? Findings from the
        first NeurIPS unlearning competition, arXiv 2406.09073, 2024.
    """
    epsilons = example_epsilons(unlearned, retrained)
    most = np.ceil(np.log(np.shape(unlearned)[0] - 1))
    points = np.where(epsilons < most, 2.0 ** -np.floor(2 * epsilons), 0)
    return ForgettingScore(float(points.mean()), epsilons)


def example_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Compute the largest epsilon that any of the challenge's rules shows, ``[M]``.

    The rules are all thresholds on a grid of a hundredth over the range of both sides,
    the side with the larger median above; and, for the side with the smaller range,
    all intervals with ends on grids of 400 points around its own. A rule that errs on
    one side alone is dropped as undersampled, and one that never errs shows infinity.

    Args:
        unlearned: ``[N, M]``.
        retrained: ``[N, M]``.

    Raises:
        ValueError: shapes that differ, less than three models, or numbers that are not
            finite.
    """
    unlearned, retrained = (
        np.asarray(side, np.float64) for side in (unlearned, retrained)
    )
    if unlearned.ndim != 2 or unlearned.shape != retrained.shape:
        raise ValueError(
            "unlearned and retrained must both be [N, M], got shapes "
            f"{unlearned.shape} and {retrained.shape}."
        )
    if unlearned.shape[0] < 3:
        raise ValueError(
            f"The score needs at least 3 models a side, got {unlearned.shape[0]}."
        )
    if not (np.isfinite(unlearned).all() and np.isfinite(retrained).all()):
        raise ValueError("unlearned and retrained must be finite.")
    logs = _logs(unlearned.shape[0])
    pairs = zip(unlearned.T, retrained.T, strict=True)
    return np.clip([_epsilon(u, r, logs) for u, r in pairs], 0, _CAP)


def _epsilon(unlearned, retrained, logs) -> float:
    spreads = sorted((np.ptp(unlearned), np.ptp(retrained)))
    if spreads[1] == 0:
        # All models of either side agree: on the same value, or apart.
        return 0.0 if unlearned[0] == retrained[0] else _CAP
    if spreads[0] / spreads[1] < _PEAKED:
        return _CAP
    wrong = [
        _by_threshold(*_ordered(unlearned, retrained, np.median)),
        _by_interval(*_ordered(retrained, unlearned, lambda side: -np.ptp(side))),
    ]
    return float(max(logs[missed, false].max(initial=0.0) for missed, false in wrong))


def _ordered(first, second, size):
    """The sides, the one of the larger size first; the first, where neither is."""
    first, second = np.sort(first), np.sort(second)
    return (second, first) if size(second) > size(first) else (first, second)


def _by_threshold(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """False negatives and false positives of every threshold, ``[2, T]``."""
    values = np.unique(np.concatenate([above, below]))
    number = int(np.ceil((values[-1] - values[0]) * _PER_UNIT))
    # Of the thresholds between two values one is enough: a masked logit's grid has
    # millions. The next above a value, and the one before it, whatever rounding says.
    step = (values[-1] - values[0]) / max(number - 1, 1)
    place = np.floor((values - values[0]) / step)[:, None] + np.arange(-1, 3)
    at = values[0] + step * np.unique(np.clip(place, 0, number - 1))
    at[-1] = values[-1] if number > 1 else values[0]
    missed = np.searchsorted(above, at)
    return np.stack([missed, below.size - np.searchsorted(below, at)])


def _by_interval(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The same of every interval, which is to hold one side and not the other."""
    number = int(2 * _BUFFER * _PER_UNIT)
    offset = np.linspace(-_BUFFER, _BUFFER, number)
    right = inside[-1] + offset
    # Left ends are a right end less the range, on the same grid: sums of two offsets.
    step = offset[1] - offset[0]
    left = inside[0] + step * np.arange(2 * number - 1) - 2 * _BUFFER
    both = np.add.outer(np.arange(number), np.arange(number))

    def held(side):
        up_to = np.searchsorted(side, right, side="right")
        return np.maximum(up_to[:, None] - np.searchsorted(side, left)[both], 0)

    held_inside, held_outside = held(inside).ravel(), held(outside).ravel()
    return np.stack([inside.size - held_inside, held_outside])


def _logs(models: int) -> np.ndarray:
    """Epsilon by the numbers of false negatives and of false positives."""
    rate = np.arange(models + 1) / models
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(1 - _DELTA - rate[None, :]) - np.log(rate[:, None])
        shown = np.fmax(one, one.T)
    shown = np.where(np.isnan(shown), 0, np.maximum(shown, 0))
    # An error on one side alone means too few models, and says nothing.
    shown[0, :] = shown[:, 0] = 0
    shown[0, 0] = np.inf
    return shown
