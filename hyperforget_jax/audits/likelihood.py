"""Likelihood-ratio attacks: LiRA, and U-LiRA on unlearned models."""

from typing import NamedTuple

import numpy as np

from hyperforget_jax.audits.held_out import held_out
from hyperforget_jax.audits.pool import IN, OUT, UNLEARNED, Pool

__all__ = ["lira", "offline_lira", "ulira"]

# Of the range of an example's confidences: a deviation of zero has no likelihood.
_FLOOR = 1e-6


class _Normal(NamedTuple):
    mean: np.ndarray
    deviation: np.ndarray

    def log_density(self, phi: np.ndarray) -> np.ndarray:
        # Less a constant. By hand: the checks of scipy cost ten times the formula.
        scaled = (phi - self.mean) / self.deviation
        return -(scaled**2) / 2 - np.log(self.deviation)


def lira(
    pool: Pool,
    *,
    positive: int = IN,
    negative: int = OUT,
    variance: str = "example",
    folds: int | None = None,
) -> np.ndarray:
    """Score every model and example by the likelihood ratio of two normals (online).

    Each example has a normal fitted to its confidences in either world. A model is
    never scored by a fit that it took part in: on the models that were fitted, two
    equal populations of eight a side are distinguished in 62 % of cases.

    Args:
        pool: K models, M examples.
        positive: the world of large scores.
        negative: the world of small ones.
        variance: ``"example"``, or ``"global"`` for one variance a world, better with
            less than about 64 models a world.
        folds: the models are left out in so many groups, model ``k`` in group
            ``k % folds``; None for one at a time. Complementary models that are left
            out together make the score of equal populations exactly one half.

    Returns:
        ``log N(phi; positive) - log N(phi; negative)``, float64, ``[K, M]``; NaN where
        an example is neither to a model.

    Raises:
        ValueError: unknown variance, or too few models of a world, also beside a group.

    References:
        Carlini et al., Membership inference attacks from first principles, arXiv
        2112.03570, 2022.
    """

    def score(phi, seen):
        first, second = (
            _fit(pool, seen & pool.is_(world), variance)
            for world in (positive, negative)
        )
        return first.log_density(phi) - second.log_density(phi)

    scores = held_out(pool, score, folds, positive, negative)
    return np.where(np.isin(pool.world, (positive, negative)), scores, np.nan)


def offline_lira(
    pool: Pool, *, variance: str = "example", folds: int | None = None
) -> np.ndarray:
    """Score by how far above the never-trained models' normal (offline).

    Args:
        pool: K models, M examples.
        variance: as for :func:`lira`.
        folds: as for :func:`lira`.

    Returns:
        Standard scores ``(phi - mean) / deviation`` by the OUT models, ``[K, M]``. The
        paper's ``P[Z < phi]`` is their normal distribution function, which ranks alike
        but is one from eight deviations on. It sees large confidences only. The
        released script of the paper takes the density, which is two-sided and weaker.

    Raises:
        ValueError: unknown variance, or too few models, also beside a group.
    """

    def score(phi, seen):
        normal = _fit(pool, seen & pool.is_(OUT), variance)
        return (phi - normal.mean) / normal.deviation

    return held_out(pool, score, folds, OUT)


def ulira(
    pool: Pool, *, variance: str = "example", folds: int | None = None
) -> np.ndarray:
    """Score unlearned against never trained, by :func:`lira`.

    Positive scores say "was unlearned": a perfect unlearner is found in half of all
    cases.

    Args:
        pool: with UNLEARNED and OUT models; they should differ in training seed, data,
            what was forgotten and key.
        variance: as for :func:`lira`.
        folds: as for :func:`lira`.

    References:
        Hayes et al., Inexact unlearning needs more careful evaluations to avoid a false
        sense of privacy, arXiv 2403.01218, 2025.
    """
    return lira(pool, positive=UNLEARNED, negative=OUT, variance=variance, folds=folds)


def _fit(pool: Pool, seen: np.ndarray, variance: str) -> _Normal:
    """A normal an example, of the models of a mask ``[K, M]``."""
    if variance not in ("example", "global"):
        raise ValueError(f"variance must be 'example' or 'global', got {variance!r}.")
    count = seen.sum(axis=0)
    mean = np.where(seen, pool.phi, 0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(seen, (pool.phi - mean) ** 2, 0).sum(axis=0)
    if variance == "global":
        own = np.full(mean.shape, squares.sum() / max((count - 1).sum(), 1))
    else:
        own = squares / np.maximum(count - 1, 1)
    spread = np.ptp(pool.phi, axis=0)
    floor = _FLOOR * np.where(spread > 0, spread, 1)
    return _Normal(mean, np.maximum(np.sqrt(own), floor))
