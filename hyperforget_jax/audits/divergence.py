"""KLoM: how far confidences of unlearned models are from those of retrained ones."""

import numpy as np
from scipy.special import rel_entr

__all__ = ["klom"]

_LIMIT, _BINS, _LEAST = 100.0, 20, 1e-5


def klom(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the KL divergence of margins, example by example, in nats.

    Margins are clipped to [-100, 100] and counted in 20 bins over the range of both
    sides; the second side's share is at least 1e-5 where it is divided by. Its
    direction matters: report both. Retrained models differ from each other too, by
    0.35 on average at a hundred a side: read it beside theirs.

    Args:
        first: logit-scaled confidences of N models, ``[N, M]``.
        second: of N' models, ``[N', M]``.

    Returns:
        ``KL(first || second)``, float64, ``[M]``.

    Raises:
        ValueError: not the same examples, less than two models a side, or NaN.

    References:
        Georgiev et al., Attribute-to-delete: machine unlearning via datamodel matching,
        arXiv 2410.23232, 2024.
    """
    first, second = (
        np.clip(np.asarray(side, np.float64), -_LIMIT, _LIMIT)
        for side in (first, second)
    )
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            "Both sides must be [models, examples] of the same examples, got shapes "
            f"{first.shape} and {second.shape}."
        )

    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"KLoM needs at least 2 models a side, got {len(first)} and {len(second)}."
        )
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("Confidences must not be NaN: leave out models that diverged.")

    low, high = (
        edge([edge(first, axis=0), edge(second, axis=0)], axis=0)
        for edge in (np.min, np.max)
    )
    edges = np.linspace(low, high, _BINS + 1)[1:-1]
    p, q = (_shares(side, edges) for side in (first, second))
    found = np.sum(rel_entr(p, np.maximum(q, _LEAST)), axis=0)
    # Less is rounding, of which bins cannot be made.
    return np.where(high - low < 1e-9, 0.0, found)


def _shares(side: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares of models in every bin of every example; the last bin is closed."""
    below = np.stack([np.sum(side < edge, axis=0) for edge in edges])
    ends = np.zeros_like(below[:1]), np.full_like(below[:1], len(side))
    return np.diff(np.concatenate([ends[0], below, ends[1]]), axis=0) / len(side)
