"""RULI: likelihoods by kernel densities in place of normals."""

import numpy as np

from hyperforget_jax.audits.held_out import held_out
from hyperforget_jax.audits.pool import OUT, UNLEARNED, Pool

__all__ = ["ruli"]


def ruli(pool: Pool, *, folds: int | None = 8) -> np.ndarray:
    """Score unlearned against never trained by kernel densities, models held out.

    The paper has two games, which differ in the models of the pool. In the efficacy
    game the OUT models were retrained: can forgetting be distinguished from it? In the
    privacy game all models have unlearned something, and to the OUT ones an example is
    one that they never saw: can it be known which examples were forgotten?

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
            _log_density(pool.phi, others & pool.is_(world), phi) for world in worlds
        )
        return first - second

    count = pool.phi.shape[0]
    scores = held_out(pool, score, folds and min(folds, count), *worlds)
    return np.where(np.isin(pool.world, worlds), scores, np.nan)


def _log_density(samples: np.ndarray, there: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Gaussian kernel densities (Scott's bandwidth), in logarithms, less a constant.

    Args:
        samples: of each example, ``[K, M]``.
        there: which of them to take, bool, ``[K, M]``.
        at: where to evaluate them, ``[G, M]``.

    Returns:
        ``[G, M]``.
    """
    count = there.sum(axis=0)
    deviation = np.std(samples, axis=0, ddof=1, where=there)
    width = np.maximum(deviation * count ** (-1 / 5), 1e-6)
    scaled, own = at / width, np.where(there, samples / width, np.inf)
    # By hand: the checks of scipy cost more. No density is cut off, so that far from
    # both worlds the wider one is the likelier. One model at a time: less to hold.
    found = []
    for point in scaled:
        terms = -((point - own) ** 2) / 2
        top = terms.max(axis=0)
        found.append(top + np.log(np.exp(terms - top).sum(axis=0)))
    return np.stack(found) - np.log(count * width)
