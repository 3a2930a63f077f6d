"""A forgotten class seen through the probabilities of its neighbours."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["neighbour_scores"]

# In nats. A class that is masked as well is far below, and would drown the others.
_LEAST = -100.0


def neighbour_scores(
    logits: np.ndarray,
    classes: Sequence[bool] | np.ndarray,
    unlearned: Sequence[bool] | np.ndarray,
    *,
    folds: int = 8,
) -> np.ndarray:
    """Score how much outputs on forgotten examples look unlearned, class left out.

    A model that never answers a class may still say what it is like: a nine is nearer
    to a four for who has seen nines. The forgotten classes' logits are left out, and
    the log-probabilities of the others, less each example's mean over models, are told
    apart by a logistic regression, which is never fitted to a model that it scores.
    Positive scores say "was unlearned".

    Source: our own reading of what "Unlearning isn't forgetting" (PMLR 306, 2026) warns
    of, whose body we have not read: its attack may differ.

    Args:
        logits: of K models on M forgotten examples, ``[K, M, C]``.
        classes: the forgotten classes, bool, ``[C]``; at least two must be left.
        unlearned: which models are unlearned, bool, ``[K]``; the others are retrained.
        folds: groups of models that are left out in turn, or as many as the smaller
            side has models.

    Returns:
        Log odds, ``[K, M]``: for :func:`audits.rates`.

    Raises:
        ValueError: shapes that do not fit each other, logits that are not finite, or
            less than two models of a side.
    """
    logits, classes, unlearned = (
        np.asarray(logits, np.float64),
        np.asarray(classes, bool),
        np.asarray(unlearned, bool),
    )
    if logits.ndim != 3 or classes.shape != logits.shape[2:]:
        raise ValueError(
            "logits must be [models, examples, classes] and classes say of each class "
            f"whether it is forgotten, got shapes {logits.shape} and {classes.shape}."
        )
    if unlearned.shape != logits.shape[:1]:
        raise ValueError(
            f"unlearned must say of each of the {logits.shape[0]} models what it is, "
            f"got shape {unlearned.shape}."
        )
    if np.sum(~classes) < 2:
        raise ValueError(
            f"Two classes must be left to look at, got {np.sum(~classes)} of "
            f"{classes.size} that are not forgotten."
        )
    bad = ~np.isfinite(logits).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"logits must be finite, those of the models {np.flatnonzero(bad).tolist()}"
            " are not: leave out those that diverged."
        )
    smaller = min(np.sum(unlearned), np.sum(~unlearned))
    if smaller < 2:
        raise ValueError(
            "Two models of each side are needed, to learn from one and score the "
            f"other; got {np.sum(unlearned)} unlearned and {np.sum(~unlearned)} "
            "retrained ones."
        )
    seen = np.maximum(log_softmax(logits[..., ~classes], axis=-1), _LEAST)
    # Each side by itself, so that every group has models of both.
    place = np.where(unlearned, np.cumsum(unlearned), np.cumsum(~unlearned))
    group = place % min(folds, smaller)
    scores = np.empty(logits.shape[:2])
    for fold in range(group.max() + 1):
        held = group == fold
        # Either side counts the same, however many models it has.
        mean = (
            seen[~held & unlearned].mean(axis=0) + seen[~held & ~unlearned].mean(axis=0)
        ) / 2
        attack = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced")
        )
        rows = seen - mean
        attack.fit(
            rows[~held].reshape(-1, seen.shape[2]),
            np.repeat(unlearned[~held], seen.shape[1]),
        )
        found = attack.decision_function(rows[held].reshape(-1, seen.shape[2]))
        scores[held] = found.reshape(-1, seen.shape[1])
    return scores
