"""A forgotten class seen through the probabilities of its neighbours."""

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["neighbour_auc"]

# In nats. A class that is masked as well is far below, and would drown the others.
_LEAST = -100.0


def neighbour_auc(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    classes: np.ndarray,
    *,
    folds: int = 8,
) -> np.ndarray:
    """Compute AUCs of unlearned against retrained outputs, forgotten classes left out.

    A model that never answers a class may still say what it is like: a nine is nearer
    to a four for who has seen nines. The forgotten classes' logits are left out, and
    the log-probabilities of the others, less each example's mean over models, are
    classified by a logistic regression. Models are left out in groups; those of a group
    are compared with each other alone, by a fit that saw none of them, so that equal
    populations have 0.5 on average, however few they are.

    Source: our own reading of what "Unlearning isn't forgetting" (PMLR 306, 2026) warns
    of, whose body we have not read: its attack may differ.

    Args:
        unlearned: logits of K models on M forgotten examples, ``[K, M, C]``.
        retrained: of other models on the same examples, ``[K', M, C]``.
        classes: the forgotten classes, bool, ``[C]``; at least two must be left.
        folds: groups of models that are left out in turn; no more than the smaller
            side has models.

    Returns:
        For each unlearned model the AUC of its examples against those of the retrained
        models of its group, float64, ``[K]``.

    Raises:
        ValueError: shapes that do not fit each other, logits that are not finite, or
            less than two models of a side.
    """
    classes = np.asarray(classes, bool)
    sides = [
        _others(name, side, classes)
        for name, side in (("unlearned", unlearned), ("retrained", retrained))
    ]
    if sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            "Both sides must be of the same examples, got "
            f"{sides[0].shape[1]} unlearned and {sides[1].shape[1]} retrained ones."
        )
    folds = min(folds, *map(len, sides))
    found = np.empty(len(sides[0]))
    for fold in range(folds):
        held = [np.arange(len(side)) % folds == fold for side in sides]
        fitted = [side[~out] for side, out in zip(sides, held, strict=True)]
        judged = [side[out] for side, out in zip(sides, held, strict=True)]
        # Either side counts the same, however many models it has.
        mean = (fitted[0].mean(axis=0) + fitted[1].mean(axis=0)) / 2
        fitted, judged = (
            [(side - mean).reshape(-1, mean.shape[1]) for side in pair]
            for pair in (fitted, judged)
        )
        attack = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced")
        )
        attack.fit(np.concatenate(fitted), np.repeat([1, 0], list(map(len, fitted))))
        own, others = map(attack.decision_function, judged)
        truth = np.repeat([1, 0], [len(mean), len(others)])
        found[held[0]] = [
            roc_auc_score(truth, np.concatenate([scores, others]))
            for scores in own.reshape(-1, len(mean))
        ]
    return found


def _others(name: str, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Log-probabilities of the classes that are not forgotten, ``[K, M, C']``."""
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 3 or classes.shape != logits.shape[2:] or logits.shape[0] < 2:
        raise ValueError(
            f"{name} must be [models, examples, classes] of at least two models, to "
            "learn from one and judge the other, and classes say of each class whether "
            f"it is forgotten; got shapes {logits.shape} and {classes.shape}."
        )
    if np.sum(~classes) < 2:
        raise ValueError(
            f"Two classes must be left to look at, got {np.sum(~classes)} of "
            f"{classes.size} that are not forgotten."
        )
    bad = ~np.isfinite(logits).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{name} must be finite, those of the models "
            f"{np.flatnonzero(bad).tolist()} are not: leave out those that diverged."
        )
    return np.maximum(log_softmax(logits[..., ~classes], axis=-1), _LEAST)
