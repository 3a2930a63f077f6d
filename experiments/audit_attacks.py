"""Attacks on models posed as trained with what was to be forgotten."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_curve

from hyperforget_jax import audits

# Points of a curve.
POINTS = 60


class Posed(NamedTuple):
    """Attacks on models posed as trained with what was to be forgotten.

    Attributes:
        scores: by attack, and whether a model had an example, ``[2 K, M]`` each.
        own: bool, ``[2 K, M]``.
    """

    scores: dict[str, np.ndarray]
    own: np.ndarray


def attacks(posed: Posed, floor: Posed, original: Posed) -> list[audits.Audited]:
    """Measure how well each attack separates models, beside floor and original."""
    found = []
    for name in posed.scores:

        def auc(of, rows=slice(None), name=name):
            scores, own = of.scores[name][rows], of.own[rows]
            if own.all() or not own.any():  # Of few models a draw may lack one side.
                return np.nan
            return audits.rates(scores[own], scores[~own], levels=()).auc

        def at(of, level=0.01, name=name):
            scores = of.scores[name]
            return audits.tpr_at(level, scores[of.own], scores[~of.own])

        found.append(
            audits.Audited(
                f"{name}, auc",
                auc(posed),
                audits.bootstrap(lambda rows: auc(posed, rows), len(posed.own)),
                auc(floor),
                auc(original),
            )
        )
        found.append(
            audits.Audited(
                f"{name}, true positives at 1 %",
                at(posed),
                None,
                at(floor),
                at(original),
            )
        )
    return found


def curves(posed: Posed) -> list[dict[str, Any]]:
    """Thin ROC curves out to a logarithmic grid; nothing is interpolated."""
    found = []
    for attack, scores in posed.scores.items():
        false, true, _ = roc_curve(
            posed.own.ravel(), scores.ravel(), drop_intermediate=False
        )
        grid = np.geomspace(1 / np.sum(~posed.own), 1, POINTS)
        best = [float(true[false <= level].max()) for level in grid]
        found.append({"attack": attack, "fpr": grid.tolist(), "tpr": best})
    return found
