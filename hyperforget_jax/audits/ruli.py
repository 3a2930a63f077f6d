"""RULI: likelihoods by kernel densities in place of normals."""

import numpy as np

from hyperforget_jax.audits.held_out import held_out
from hyperforget_jax.audits.pool import OUT, UNLEARNED, Pool

__all__ = ["ruli"]


def ruli(pool: Pool, *, folds: int | None = 8) -> np.ndarray:
    """Score unlearned against never trained by kernel densities, models held out.

    The paper has two games, which differ in the models of the pool. In the efficacy
    game the OUT models were retrained: can forgetting be told from retraining? In the
    privacy game all models have unlearned something, and to the OUT ones an example is
    one that they never saw: can it be told which examples were forgotten?

    Args:
        pool: with UNLEARNED and OUT models.
        folds: as for :func:`hyperforget_jax.audits.lira`.

    Returns:
        Log ratios of UNLEARNED over OUT, ``[K, M]``; NaN where an example is neither
        to a model.

    Raises:
        ValueError: less than four models of a world an example, or less than two
            beside a group.

    References:
        Naderloui et al., Rectifying privacy and efficacy measurements in machine
        unlearning, arXiv 2506.13009, 2025, whose released code takes a bandwidth of
        one; this is Scott's.
    """
    worlds = (UNLEARNED, OUT)
    pool.check_enough(4, *worlds)

    def score(phi, others):
        first, second = (
            np.stack(
                [
                    _log_density(samples[there], at)
                    for samples, there, at in zip(
                        pool.phi.T, (others & pool.is_(world)).T, phi.T, strict=True
                    )
                ],
                axis=1,
            )
            for world in worlds
        )
        return first - second

    count = pool.phi.shape[0]
    scores = held_out(pool, score, folds and min(folds, count), *worlds)
    return np.where(np.isin(pool.world, worlds), scores, np.nan)


def _log_density(samples: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A Gaussian kernel density (Scott's bandwidth), in logarithms, less a constant."""
    width = max(samples.std(ddof=1) * samples.size ** (-1 / 5), 1e-6)
    terms = -(((at[:, None] - samples[None, :]) / width) ** 2) / 2
    # By hand: the checks of scipy cost more. No density is cut off, so that far from
    # both worlds the wider one is the likelier.
    top = terms.max(axis=1)
    return top + np.log(np.exp(terms - top[:, None]).mean(axis=1)) - np.log(width)
