"""The forgetting score's rules, one by one: a baseline, and what tests compare with.

Triantafillou et al., Are we making progress in unlearning? Findings from the first
NeurIPS unlearning competition, arXiv 2406.09073, 2024. Written from a description of
the rules: every threshold and every interval is tried on all values.
"""

import numpy as np

__all__ = ["epsilon"]

_DELTA = 1e-5
_CAP = 50.0


def epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Compute what the best rule shows of one example.

    Args:
        unlearned: its confidences under N models, ``[N]``, not all equal.
        retrained: under as many others, ``[N]``.
    """
    pair = (retrained, unlearned)
    above, below = pair if np.median(pair[0]) > np.median(pair[1]) else pair[::-1]
    ranges = sorted([np.ptp(above), np.ptp(below)])
    if ranges[0] / ranges[1] < 0.01:
        return _CAP
    # The side of the smaller range is looked for, the second where they are equal.
    narrow, wide = (below, above) if np.ptp(above) >= np.ptp(below) else (above, below)
    low, high = min(above.min(), below.min()), max(above.max(), below.max())
    found = []
    for at in np.linspace(low, high, int(np.ceil((high - low) * 100))):
        found.append((np.mean(above < at), np.mean(below >= at)))
    for right in np.linspace(narrow.max() - 2, narrow.max() + 2, 400):
        start = right - np.ptp(narrow)
        for left in np.linspace(start - 2, start + 2, 400):
            held = [
                np.mean((left <= side) & (side <= right)) for side in (narrow, wide)
            ]
            found.append((1 - held[0], held[1]))
    best = 0.0
    for fnr, fpr in set(found):
        if fnr == fpr == 0:
            return _CAP
        if fnr > 0 and fpr > 0:
            with np.errstate(invalid="ignore", divide="ignore"):
                shown = [
                    np.log(1 - _DELTA - fpr) - np.log(fnr),
                    np.log(1 - _DELTA - fnr) - np.log(fpr),
                ]
            best = max(best, *(each for each in shown if not np.isnan(each)))
    return min(float(best), _CAP)
