"""Evaluation of a model after a request, beside retrained models.

The metrics themselves are in :mod:`hyperforget_jax.metrics`.
"""

from hyperforget_jax.evaluation.attacks import attack_accuracy, auc, tpr_at_fpr
from hyperforget_jax.evaluation.evaluate import ceiling, evaluate
from hyperforget_jax.evaluation.evaluation import Evaluation, Spread
from hyperforget_jax.evaluation.measure import tug_of_war
from hyperforget_jax.evaluation.retrained import Retrained, prepare_retrained

__all__ = [
    "Evaluation",
    "Retrained",
    "Spread",
    "attack_accuracy",
    "auc",
    "ceiling",
    "evaluate",
    "prepare_retrained",
    "tpr_at_fpr",
    "tug_of_war",
]
