"""One model's metrics, by the names that records and tables have for them."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.checks import (
    check_classifier,
    check_examples,
    check_held_out,
    check_is_request,
    check_key,
    check_sizes,
    check_variables_given,
)
from hyperforget_jax.evaluation import attacks
from hyperforget_jax.metrics import (
    ClassScores,
    EvaluationData,
    Logits,
    Relearning,
    evaluation_data,
    score_logits,
)

__all__ = [
    "checked_data",
    "measure",
    "relearning_by_name",
    "same_halves",
    "tug_of_war",
]

_TUG_OF_WAR = ("forget_accuracy_train", "retain_accuracy_train", "retain_accuracy_test")


def checked_data(
    classifier: Classifier,
    models: dict[str, Variables],
    request: ForgetRequest,
    examples: Examples,
    *,
    key: Array | None,
    batch_size: int,
) -> EvaluationData:
    """Return what models, by the names of their arguments, are evaluated on.

    Raise TypeError or ValueError unless everything fits together, and if examples were
    trained on: neither rows of weight zero nor those forgotten earlier count.
    """
    check_sizes(batch_size=batch_size)
    if key is not None:
        check_key(key)
    check_is_request(request)
    data = request.data
    if data is None:
        raise ValueError(
            "This request carries no data (data=None, made by forget_labels), and "
            "evaluation measures the training examples too: evaluate with the request "
            "that forget_classes makes from them."
        )
    num_classes = request.classes.shape[0]
    check_examples(examples, num_classes=num_classes, name="examples")
    for name, variables in models.items():
        check_variables_given(variables)
        for x in (data.x, examples.x):
            check_classifier(
                classifier, variables, x, num_classes=num_classes, name=name
            )
    check_held_out(data, examples, "examples")
    return evaluation_data(request, examples)


def same_halves(one: EvaluationData, other: EvaluationData) -> bool:
    """Return whether two requests forget the same rows of the same tables."""
    return all(
        np.array_equal(a, b)
        for mine, theirs in zip(one[:2], other[:2], strict=True)
        for a, b in zip(mine[1:], theirs[1:], strict=True)  # Labels and weights.
    )


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
        owner: whose the logits are, for the message if they are not finite.

    Returns:
        Metrics by name, and NumPy scores class by class, by split.
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
            for name in ("js", "kl", "l2") if references is not None else ():
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
) -> dict[str, float]:
    """Compute ``(1-|FA-FA_r|)(1-|RA-RA_r|)(1-|TA-TA_r|)``, in ``[0, 1]``.

    One is as good as retraining. FA is forget accuracy on train, RA and TA are retain
    accuracy on train and on test; FA_r and so on are means over retrained models.

    Source: Zhao et al., What makes unlearning hard and what to do about it, arXiv
    2406.01257, 2024.

    Args:
        metrics: the model's.
        retrained_metrics: each retrained model's, at least one.

    Returns:
        The product as ``{"tow": ...}``; nothing if one of the three halves is empty.
    """
    if not all(name in metrics for name in _TUG_OF_WAR):
        return {}
    targets = [np.mean([each[n] for each in retrained_metrics]) for n in _TUG_OF_WAR]
    gaps = np.subtract([metrics[name] for name in _TUG_OF_WAR], targets)
    return {"tow": float(np.prod(1 - np.abs(gaps)))}
