"""Metrics of forgetting: pure functions of logits and weighted examples.

All can be jitted, and vmapped over models.
"""

from hyperforget_jax.metrics.accuracy import (
    ClassScores,
    accuracy,
    attack_success,
    class_scores,
    mean_loss,
)
from hyperforget_jax.metrics.distances import (
    jensen_shannon,
    kullback_leibler,
    mean_distance,
    output_distance,
    pairwise_distances,
)
from hyperforget_jax.metrics.membership import auc
from hyperforget_jax.metrics.relearning import (
    Relearning,
    first_reached,
    relearn,
    relearned,
    relearning_curve,
    relearning_target,
)
from hyperforget_jax.metrics.scores import (
    EvaluationData,
    HalfScores,
    Halves,
    Logits,
    Scores,
    evaluation_data,
    predict,
    score_logits,
    scores,
)

__all__ = [
    "ClassScores",
    "EvaluationData",
    "HalfScores",
    "Halves",
    "Logits",
    "Relearning",
    "Scores",
    "accuracy",
    "attack_success",
    "auc",
    "class_scores",
    "evaluation_data",
    "first_reached",
    "jensen_shannon",
    "kullback_leibler",
    "mean_distance",
    "mean_loss",
    "output_distance",
    "pairwise_distances",
    "predict",
    "relearn",
    "relearned",
    "relearning_curve",
    "relearning_target",
    "score_logits",
    "scores",
]
