"""ROC curves and histograms of confidences, small enough for a record."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

__all__ = ["confidence_histogram", "roc_points"]

_POINTS, _BINS = 60, 24


def roc_points(
    attack: str, positive: np.ndarray, negative: np.ndarray
) -> dict[str, Any]:
    """Choose points of a ROC curve that are evenly spaced on a logarithmic axis.

    The points are the curve's own; nothing is interpolated.

    Args:
        attack: its name.
        positive: scores of positives, large ones speaking for them, any shape; NaN are
            left out.
        negative: scores of negatives, likewise.

    Returns:
        ``{"attack", "negatives", "fpr", "tpr"}``. Rates of false positives below
        ``1 / negatives`` cannot be resolved.

    Raises:
        ValueError: no scores of one side.
    """
    positive, negative = (
        np.asarray(side, np.float64)[~np.isnan(side)] for side in (positive, negative)
    )
    if not positive.size or not negative.size:
        raise ValueError(
            f"Both sides of {attack!r} need scores, got {positive.size} positive and "
            f"{negative.size} negative ones."
        )
    truth = np.repeat([1, 0], [positive.size, negative.size])
    scores = np.concatenate([positive, negative])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    wanted = np.rint(np.geomspace(1, negative.size, _POINTS))
    # Of all thresholds with at most so many false positives, the last: the best.
    last = np.searchsorted(np.rint(false * negative.size), wanted, side="right") - 1
    chosen = np.unique(last)
    return {
        "attack": attack,
        "negatives": negative.size,
        "fpr": [float(f"{rate:.6g}") for rate in false[chosen]],
        "tpr": [float(f"{rate:.6g}") for rate in true[chosen]],
    }


def confidence_histogram(
    example: int, original: np.ndarray, retrained: np.ndarray, unlearned: np.ndarray
) -> dict[str, Any]:
    """Count the confidences of an example, model by model.

    The bins cover original and retrained models and one bin more a side; the outer ones
    hold all that lies beyond, as a masked logit does.

    Args:
        example: its number.
        original: logit-scaled confidences of the models, ``[K]``; may be empty.
        retrained: likewise, ``[K']``, at least one.
        unlearned: likewise, ``[K'']``.

    Returns:
        ``{"example", "edges", "original", "retrained", "unlearned"}``.
    """
    covered = np.concatenate([original, retrained]).astype(np.float64)
    # A little wider, so that the largest one lies below the last bin.
    width = 1.001 * np.ptp(covered) / (_BINS - 2) or 1.0
    middle = (covered.min() + covered.max()) / 2
    edges = middle + width * (np.arange(_BINS + 1) - _BINS / 2)
    edges = np.array([float(f"{edge:.6g}") for edge in edges])
    sides = {"original": original, "retrained": retrained, "unlearned": unlearned}
    counts = {
        kind: np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0].tolist()
        for kind, side in sides.items()
    }
    return {"example": int(example), "edges": edges.tolist(), **counts}
