"""RULI's two games: likelihoods by kernel density, models in three worlds."""

import numpy as np

from hyperforget_jax.audits.pool import IN, OUT, UNLEARNED, Pool

__all__ = ["ruli"]

# A density of zero has no logarithm.
_LEAST = 1e-30


def ruli(pool: Pool, game: str = "privacy", *, folds: int = 8) -> np.ndarray:
    """Score by the ratio of kernel densities of two worlds, models held out.

    Args:
        pool: with models of all worlds that the game needs.
        game: ``"privacy"``: was an example unlearned, or never seen; ``"efficacy"``:
            does an unlearned example look as if it were still trained with (IN against
            OUT, scored on unlearned models).
        folds: groups of models that are left out in turn.

    Returns:
        Log ratios, ``[K, M]``: for ``"privacy"`` of UNLEARNED over OUT, for
        ``"efficacy"`` of IN over OUT; NaN where a cell is not in the game.

    Raises:
        ValueError: unknown game, or less than four models of a world an example.

    References:
        Naderloui et al., Rectifying privacy and efficacy measurements in machine
        unlearning, arXiv 2506.13009, 2025.
    """
    games = {"privacy": (UNLEARNED, OUT), "efficacy": (IN, OUT)}
    if game not in games:
        raise ValueError(f"game must be one of {tuple(games)}, got {game!r}.")
    worlds = games[game]
    pool.check_enough(4, *worlds)
    count = pool.phi.shape[0]
    group = np.arange(count) % min(folds, count)
    scores = np.full(pool.phi.shape, np.nan)
    for fold in range(group.max() + 1):
        held = group == fold
        for example, phi in enumerate(pool.phi.T):
            first, second = (
                _log_density(phi[~held & (pool.world[:, example] == world)], phi[held])
                for world in worlds
            )
            scores[held, example] = first - second
    judged = {"privacy": worlds, "efficacy": (UNLEARNED, OUT)}[game]
    return np.where(np.isin(pool.world, judged), scores, np.nan)


def _log_density(samples: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A Gaussian kernel density (Scott's bandwidth), in logarithms."""
    width = max(samples.std(ddof=1), 1e-6) * samples.size ** (-1 / 5)
    terms = -(((at[:, None] - samples[None, :]) / width) ** 2) / 2
    top = terms.max(axis=1, keepdims=True)
    near = np.exp(terms - top).mean(axis=1)
    # Where no sample is near, a log density of that of the least positive number.
    return np.maximum(top[:, 0] + np.log(near), np.log(_LEAST)) - np.log(width)
