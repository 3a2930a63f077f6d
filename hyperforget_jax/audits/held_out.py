"""Scores of models by fits that they took no part in."""

from collections.abc import Callable

import numpy as np

from hyperforget_jax.audits.pool import Pool

__all__ = ["held_out"]


def held_out(
    pool: Pool,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
    folds: int | None,
    *worlds: int,
) -> np.ndarray:
    """Score every group of models by fits to the others.

    Model ``k`` is in group ``k % folds``. Where a group takes unequal numbers of the
    two worlds from an example, the fit to its own world is the poorer one, and equal
    populations score less than one half: with one model left out at a time and eight
    a world, an area of 0.49. Complementary models that are a multiple of ``folds``
    apart are left out together, and score one half.

    Args:
        pool: K models, M examples.
        score: ``(phi of the group [G, M], the others [K, 1]) -> [G, M]``.
        folds: how many groups; None for one model at a time.
        *worlds: that are fitted.

    Raises:
        ValueError: too few models of a world, or none left beside a group.
    """
    pool.check_enough(3, *worlds)
    count = pool.phi.shape[0]
    folds = count if folds is None else folds
    if not 2 <= folds <= count:
        raise ValueError(f"folds must be in [2, {count}], got {folds}.")
    group = np.arange(count) % folds
    scores = np.empty(pool.phi.shape)
    for fold in range(folds):
        others = (group != fold)[:, None]
        left = min((others & pool.is_(world)).sum(axis=0).min() for world in worlds)
        if left < 2:
            raise ValueError(
                f"folds={folds} leaves {left} models of a world for some example to "
                "fit; it needs 2: use more folds, or mix the worlds in the order of "
                "models."
            )
        scores[~others[:, 0]] = score(pool.phi[~others[:, 0]], others)
    return scores
