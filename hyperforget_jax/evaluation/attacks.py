"""Membership inference by a threshold on the loss: does a low loss give members away?

Runs on the host in float64. Losses are per-example cross-entropies of the *label*, so
the attack sees labels; a score computed from the outputs alone would not.

The right value is the retrained model's, which is near 1/2 for rows drawn at random
and need not be for whole classes.
"""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["attack_accuracy", "auc", "tpr_at_fpr"]


def auc(members: ArrayLike, non_members: ArrayLike) -> float:
    """Compute the chance that a member's loss is below a non-member's, ties half.

    Source: Yeom et al., Privacy risk in machine learning, arXiv 1709.01604, 2018.

    Args:
        members: losses in nats, ``[M]``, finite and at least one.
        non_members: likewise, ``[K]``.
    """
    losses, labels = _labelled(members, non_members)
    return float(roc_auc_score(labels, -losses))


def attack_accuracy(members: ArrayLike, non_members: ArrayLike) -> float:
    """Compute the balanced accuracy of a logistic regression on the loss.

    Every guess is made by a regression that did not see the example (five stratified
    folds, or fewer where a group is smaller); groups of different size count the same.
    Deterministic.

    Args:
        members: losses in nats, ``[M]``, finite and at least two.
        non_members: likewise, ``[K]``.

    Returns:
        A fraction; 1/2 is guessing.
    """
    losses, labels = _labelled(members, non_members)
    smaller = min(np.count_nonzero(labels), np.count_nonzero(~labels))
    if smaller < 2:
        raise ValueError(
            "attack_accuracy needs two members and two non-members, to learn from one "
            f"and guess the other; the smaller group has {smaller}."
        )
    attack = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced")
    )
    folds = StratifiedKFold(min(5, smaller), shuffle=True, random_state=0)
    guesses = cross_val_predict(attack, losses[:, None], labels, cv=folds)
    return float(balanced_accuracy_score(labels, guesses))


def tpr_at_fpr(
    members: ArrayLike,
    non_members: ArrayLike,
    fpr: float = 0.01,
    *,
    min_non_members: int = 200,
) -> float | None:
    """Compute the most members caught by a threshold that accuses few non-members.

    Exact over the examples at hand: among all rules "loss <= t" whose false positive
    rate is at most ``fpr``, the largest true positive rate. Nothing is interpolated.

    Source: Carlini et al., Membership inference attacks from first principles, arXiv
    2112.03570, 2022.

    Args:
        members: losses in nats, ``[M]``, finite and at least one.
        non_members: likewise, ``[K]``.
        fpr: the largest false positive rate, a fraction in ``[0, 1]``.
        min_non_members: with fewer the rate stands on one or two examples.

    Returns:
        A fraction, or None if there are fewer than ``min_non_members`` non-members.
    """
    losses, labels = _labelled(members, non_members)
    if np.count_nonzero(~labels) < min_non_members:
        return None
    rates, caught, _ = roc_curve(labels, -losses, drop_intermediate=False)
    return float(np.max(caught[rates <= fpr]))


def _labelled(members: ArrayLike, non_members: ArrayLike) -> tuple[np.ndarray, ...]:
    """Return all losses, float64, and whether each is a member's, bool."""
    groups = []
    for name, group in (("members", members), ("non_members", non_members)):
        group = np.asarray(group, np.float64)
        if group.ndim != 1 or group.size == 0:
            raise ValueError(
                f"{name} must be a list of losses with at least one, got shape "
                f"{group.shape}."
            )
        if not np.isfinite(group).all():
            place = int(np.argmin(np.isfinite(group)))
            raise ValueError(
                f"{name} must be finite losses, got {group[place]} at position {place}."
            )
        groups.append(group)
    labels = np.repeat([True, False], [group.size for group in groups])
    return np.concatenate(groups), labels
