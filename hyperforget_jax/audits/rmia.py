"""RMIA: is the example more likely than others, relative to models without it?"""

import numpy as np
from scipy.special import expit

from hyperforget_jax.audits.pool import IN, OUT, Pool

__all__ = ["rmia"]

_LEAST = 1e-300


def rmia(
    pool: Pool,
    population: np.ndarray,
    *,
    online: bool = True,
    gamma: float = 1.0,
    offset: float = 0.3,
) -> np.ndarray:
    """Score every model and example by its share of dominated population examples.

    The score of ``x`` under a model is the share of population examples ``z`` with
    ``ratio(x) / ratio(z) > gamma``, where ``ratio`` is the probability of the true
    label over its mean under other models. That mean is over all other models that
    the example is OUT for (and, online, half of it over those it is IN for).

    Args:
        pool: K models, M examples.
        population: confidences of Z examples that no model was trained with, in the
            pool's order of models, ``[K, Z]``.
        online: whether models that were trained with an example serve as well.
        gamma: by how much an example must dominate.
        offset: ``a`` of the linear guess ``a p_out + (1 - a)`` of the mean under
            models trained with the example, offline.

    Returns:
        Scores in [0, 1], ``[K, M]``; large speaks for members.

    Raises:
        ValueError: a population of other models or with NaN, or too few models.

    References:
        Zarifzadeh et al., Low-cost high-power membership inference attacks, arXiv
        2312.03262, 2024.
    """
    population = np.asarray(population, np.float64)
    count = pool.phi.shape[0]
    if population.ndim != 2 or population.shape[0] != count or not population.size:
        raise ValueError(
            f"population must be [{count}, Z], of the pool's models, got shape "
            f"{population.shape}."
        )
    if np.isnan(population).any():
        raise ValueError("population must not be NaN: leave out models that diverged.")
    if not 0 <= offset <= 1:
        raise ValueError(f"offset must be in [0, 1], got {offset}.")
    pool.check_enough(2, OUT, *((IN,) if online else ()))
    # A masked logit has a probability of zero everywhere, and zero is no divisor.
    own, of_z = (np.maximum(p, _LEAST) for p in (pool.probability, expit(population)))
    out = _mean_of_others(own, pool.is_(OUT))
    z_out = _mean_of_others(of_z, np.ones(of_z.shape, bool))

    def expected(out):
        return (out + offset * out + 1 - offset) / 2

    if online:
        ratio = own / ((out + _mean_of_others(own, pool.is_(IN))) / 2)
        z_ratio = of_z / z_out
    else:
        ratio, z_ratio = own / expected(out), of_z / expected(z_out)
    scores = np.empty(own.shape)
    for model in range(count):
        ranked = np.sort(z_ratio[model])
        scores[model] = np.searchsorted(ranked, ratio[model] / gamma) / ranked.size
    return scores


def _mean_of_others(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """For each model the mean over all other ones of a mask, ``[K, M]``."""
    kept = np.where(there, values, 0)
    total, number = kept.sum(axis=0) - kept, there.sum(axis=0) - there
    return total / np.maximum(number, 1)
