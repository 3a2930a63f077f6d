"""Honest measures of forgetting, read against retrained oracles."""

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
from hyperforget_jax.evaluation.judging import ceiling, evaluate
from hyperforget_jax.evaluation.measures import tug_of_war
from hyperforget_jax.evaluation.membership import attack_accuracy, auc, tpr_at_fpr
from hyperforget_jax.evaluation.oracles import Oracles, prepare_oracles
from hyperforget_jax.evaluation.outcome import Evaluation, Spread
from hyperforget_jax.evaluation.relearning import (
    Relearning,
    first_reached,
    relearn,
    relearning_curve,
)
from hyperforget_jax.models.predictions import logits, population_logits

__all__ = [
    "Evaluation",
    "Oracles",
    "PerClass",
    "Relearning",
    "Spread",
    "accuracy",
    "attack_accuracy",
    "auc",
    "ceiling",
    "evaluate",
    "first_reached",
    "jensen_shannon",
    "kullback_leibler",
    "logits",
    "mean_distance",
    "mean_loss",
    "output_distance",
    "per_class_accuracy",
    "population_logits",
    "prepare_oracles",
    "relearn",
    "relearning_curve",
    "tpr_at_fpr",
    "tug_of_war",
]
