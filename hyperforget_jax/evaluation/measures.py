"""Metrics by name, from one model's logits on the training and the test split."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from hyperforget_jax.base import Array
from hyperforget_jax.evaluation import membership
from hyperforget_jax.evaluation.correctness import (
    PerClass,
    accuracy,
    mean_loss,
    per_class_accuracy,
)
from hyperforget_jax.evaluation.distance import (
    jensen_shannon,
    kullback_leibler,
    mean_distance,
    output_distance,
)
from hyperforget_jax.evaluation.outputs import Outputs, Split, Splits
from hyperforget_jax.evaluation.relearning import Relearning
from hyperforget_jax.losses import cross_entropy

__all__ = [
    "distances_to_oracles",
    "own_metrics",
    "relearning_metrics",
    "tug_of_war",
]

_TUG_OF_WAR = ("forget_accuracy_train", "retain_accuracy_train", "retain_accuracy_test")


def own_metrics(
    outputs: Outputs, splits: Splits, *, is_class_request: bool
) -> tuple[dict[str, float], dict[str, PerClass]]:
    """The metrics of one model by itself, and its accuracy class by class.

    Args:
        outputs: the model's finite logits.
        splits: both splits in halves.
        is_class_request: whether whole classes are forgotten: membership inference
            then compares with the test rows of these classes, else with all of them.

    Returns:
        Metrics by name, those of an empty half left out; and NumPy accuracies class
        by class, by split.
    """
    metrics: dict[str, float] = {}
    per_class, losses = {}, {}
    for name in ("train", "test"):
        split = getattr(splits, name)
        computed = jax.device_get(_statistics(getattr(outputs, name), split))
        per_class[name] = computed["per_class"]
        losses[name] = computed["losses"]
        for half in ("forget", "retain"):
            if np.any(getattr(split, half)):
                metrics |= {
                    f"{half}_{kind}_{name}": float(computed[f"{half}_{kind}"])
                    for kind in ("accuracy", "loss")
                }
        if name == "test":
            metrics["accuracy_test"] = float(computed["accuracy"])

    test = splits.test
    outside = test.forget if is_class_request else test.forget + test.retain
    # Whether an example was a member is a yes or no: weights do not count here.
    metrics |= _membership_metrics(
        losses["train"][np.asarray(splits.train.forget) > 0],
        losses["test"][np.asarray(outside) > 0],
    )
    return metrics, per_class


def distances_to_oracles(
    outputs: Outputs, oracle_outputs: Outputs, splits: Splits
) -> dict[str, float]:
    """A model's mean distances to the oracles, those of an empty half left out.

    Args:
        outputs: the model's logits.
        oracle_outputs: the oracles', stacked, ``[R, ...]``.
        splits: both splits in halves.
    """
    computed = jax.device_get(_oracle_distances(outputs, oracle_outputs, splits))
    result: dict[str, float] = {}
    for (short, half, name), value in computed.items():
        if np.any(getattr(getattr(splits, name), half)):
            result[f"{short}_to_oracle_{half}_{name}"] = float(value)
            if (half, name) == ("forget", "train"):
                result[f"{short}_to_oracle"] = float(value)
    return result


def relearning_metrics(outcome: Relearning) -> dict[str, float]:
    """The outcome of one relearning, by name; censored is 0 or 1."""
    return {
        "relearn_steps": float(outcome.steps),
        "relearn_censored": float(outcome.censored),
    }


def tug_of_war(
    metrics: Mapping[str, float], oracle_metrics: Sequence[Mapping[str, float]]
) -> float | None:
    """``(1-|FA-FA_r|)(1-|RA-RA_r|)(1-|TA-TA_r|)``, in ``[0, 1]``.

    One is as good as retraining. FA is forget accuracy on train, RA and TA are retain
    accuracy on train and on test, and the oracles' are means over oracles.

    Source: Zhao et al., What makes unlearning hard and what to do about it, arXiv
    2406.01257, 2024.

    Args:
        metrics: the model's.
        oracle_metrics: each oracle's, at least one.

    Returns:
        The product, or None if one of the three halves is empty.
    """
    if not all(name in metrics for name in _TUG_OF_WAR):
        return None
    product = 1.0
    for name in _TUG_OF_WAR:
        retrained = float(np.mean([of_one[name] for of_one in oracle_metrics]))
        product *= 1 - abs(metrics[name] - retrained)
    return product


@jax.jit
def _statistics(outputs: Array, split: Split) -> dict:
    y, forget, retain = split
    return {
        "forget_accuracy": accuracy(outputs, y, forget),
        "retain_accuracy": accuracy(outputs, y, retain),
        "forget_loss": mean_loss(outputs, y, forget),
        "retain_loss": mean_loss(outputs, y, retain),
        "accuracy": accuracy(outputs, y, forget + retain),
        "per_class": per_class_accuracy(outputs, y, forget + retain),
        "losses": cross_entropy(outputs, y),
    }


@jax.jit
def _oracle_distances(
    outputs: Outputs, oracle_outputs: Outputs, splits: Splits
) -> dict[tuple[str, str, str], Array]:
    return {
        (short, half, name): mean_distance(
            distance,
            getattr(outputs, name),
            getattr(oracle_outputs, name),
            getattr(getattr(splits, name), half),
        )
        for short, distance in (
            ("js", jensen_shannon),
            ("kl", kullback_leibler),
            ("l2", output_distance),
        )
        for half in ("forget", "retain")
        for name in ("train", "test")
    }


def _membership_metrics(
    members: np.ndarray, non_members: np.ndarray
) -> dict[str, float]:
    metrics = {}
    if members.size and non_members.size:
        metrics["mia_auc"] = membership.auc(members, non_members)
        rate = membership.tpr_at_fpr(members, non_members, 0.01)
        if rate is not None:
            metrics["mia_tpr_at_1_fpr"] = rate
    if min(members.size, non_members.size) >= 2:
        metrics["mia_accuracy"] = membership.attack_accuracy(members, non_members)
    return metrics
