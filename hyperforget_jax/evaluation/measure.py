"""One model's metrics, by the names that records and tables have for them."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from hyperforget_jax import losses
from hyperforget_jax.evaluation import attacks
from hyperforget_jax.metrics import (
    ClassScores,
    EvaluationData,
    Logits,
    Relearning,
    score_logits,
)

__all__ = ["DISTANCES", "measure", "relearning_by_name", "tug_of_war"]

DISTANCES = ("js", "kl", "l2")
_TUG_OF_WAR = ("forget_accuracy_train", "retain_accuracy_train", "retain_accuracy_test")


def measure(
    logits: Logits,
    data: EvaluationData,
    references: Logits | None,
    *,
    owner: str,
) -> tuple[dict[str, float], dict[str, ClassScores]]:
    """Compute a model's metrics, those of an empty half left out.

    Args:
        logits: the model's.
        data: what it was evaluated on.
        references: retrained models' logits, stacked, if there are any.
        owner: whose the logits are, for the message.

    Returns:
        Metrics by name, and NumPy scores class by class, by split.

    Raises:
        ValueError: logits of rows that count are not finite.
    """
    scores, inside, outside = jax.device_get(_scores(logits, data, references))
    found: dict[str, float] = {}
    for split in ("train", "test"):
        halves = {h: getattr(scores, f"{h}_{split}") for h in ("forget", "retain")}
        if bad := sum(int(each.non_finite) for each in halves.values()):
            raise ValueError(
                f"The logits of {owner} are not finite for {bad} {split} examples: it "
                "has diverged, and no metric of it means anything."
            )
        for half, each in halves.items():
            if each.weight == 0:
                continue
            found[f"{half}_accuracy_{split}"] = float(each.accuracy)
            found[f"{half}_loss_{split}"] = float(each.loss)
            for name in DISTANCES if references is not None else ():
                distance = float(getattr(each, name))
                found[f"{name}_to_oracle_{half}_{split}"] = distance
                if (half, split) == ("forget", "train"):
                    found[f"{name}_to_oracle"] = distance
    found["accuracy_test"] = float(scores.test_accuracy)
    # Whether an example was a member is a yes or no: weights do not count here.
    members = inside[np.asarray(data.train.forget) > 0]
    others = outside[np.asarray(data.non_members) > 0]
    if members.size and others.size:
        found["mia_auc"] = attacks.auc(members, others)
        rate = attacks.tpr_at_fpr(members, others, 0.01)
        if rate is not None:
            found["mia_tpr_at_1_fpr"] = rate
    if min(members.size, others.size) >= 2:
        found["mia_accuracy"] = attacks.attack_accuracy(members, others)
    return found, {"train": scores.train_classes, "test": scores.test_classes}


@jax.jit
def _scores(logits, data, references):
    """Return scores and every row's loss."""
    rows = [
        losses.cross_entropy(own, halves.y)
        for own, halves in zip(logits, (data.train, data.test), strict=True)
    ]
    return score_logits(logits, data, references), *rows


def relearning_by_name(outcome: Relearning) -> dict[str, float]:
    """Return the outcome of one relearning by name; censored is 0 or 1."""
    return {
        "relearn_steps": float(outcome.steps),
        "relearn_censored": float(outcome.censored),
    }


def tug_of_war(
    metrics: Mapping[str, float], retrained_metrics: Sequence[Mapping[str, float]]
) -> float | None:
    """Compute ``(1-|FA-FA_r|)(1-|RA-RA_r|)(1-|TA-TA_r|)``, in ``[0, 1]``.

    One is as good as retraining. FA is forget accuracy on train, RA and TA are retain
    accuracy on train and on test; FA_r and so on are means over retrained models.

    Source: Zhao et al., What makes unlearning hard and what to do about it, arXiv
    2406.01257, 2024.

    Args:
        metrics: the model's.
        retrained_metrics: each retrained model's, at least one.

    Returns:
        The product, or None if one of the three halves is empty.
    """
    if not all(name in metrics for name in _TUG_OF_WAR):
        return None
    product = 1.0
    for name in _TUG_OF_WAR:
        target = float(np.mean([each[name] for each in retrained_metrics]))
        product *= 1 - abs(metrics[name] - target)
    return product
