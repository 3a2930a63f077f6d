"""KLoM: how far confidences of unlearned models are from those of retrained ones."""

import numpy as np

__all__ = ["klom", "klom_floor"]

_LIMIT, _BINS, _LEAST = 100.0, 20, 1e-5


def klom(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the KL divergence of margins, example by example, in nats.

    Margins are clipped to [-100, 100] and counted in 20 bins over the range of both
    sides; the second side's share is at least 1e-5 where it is divided by. Its
    direction matters: report both. Retrained models differ from each other too, by
    0.35 on average at a hundred a side: see :func:`klom_floor`.

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

    def divergence(a, b):
        low, high = min(a.min(), b.min()), max(a.max(), b.max())
        # Less is rounding, of which bins cannot be made.
        if high - low < 1e-9:
            return 0.0
        # The last bin is closed on the right, so that the maximum is counted.
        p, q = (
            np.histogram(side, bins=_BINS, range=(low, high))[0] / side.size
            for side in (a, b)
        )
        there = p > 0
        return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], _LEAST))))

    return np.array([divergence(a, b) for a, b in zip(first.T, second.T, strict=True)])


def klom_floor(retrained: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Compute :func:`klom` of retrained models from retrained ones, ``[M]``.

    Args:
        retrained: confidences of N models, ``[N, M]``, which are split in halves that
            share no model. With half as many a side the floor of all N is lower.
        seed: of the split.
    """
    retrained = np.asarray(retrained)
    order = np.random.default_rng(seed).permutation(retrained.shape[0])
    half = order.size // 2
    return klom(retrained[order[:half]], retrained[order[half : 2 * half]])
