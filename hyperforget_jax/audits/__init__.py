"""Audits of forgetting: of one array of confidences, and of the models' weights."""

from hyperforget_jax.audits.bounds import (
    epsilon_bound,
    epsilon_ceiling,
    held_out_bound,
    one_run_bound,
)
from hyperforget_jax.audits.claims import histograms, pose, shadow_claim
from hyperforget_jax.audits.divergence import klom
from hyperforget_jax.audits.folder import Claim, load_folder, save_folder
from hyperforget_jax.audits.forgetting import (
    ForgettingScore,
    example_epsilons,
    forgetting_score,
)
from hyperforget_jax.audits.inversion import invert, recognised
from hyperforget_jax.audits.judge import (
    KINDS,
    Audited,
    Judgement,
    judge,
    scaled_confidence,
)
from hyperforget_jax.audits.likelihood import lira, offline_lira, ulira
from hyperforget_jax.audits.memorisation import (
    Memorisation,
    memorisation,
    most_memorised,
)
from hyperforget_jax.audits.neighbours import neighbour_auc
from hyperforget_jax.audits.one_run import OneRun, one_run
from hyperforget_jax.audits.pool import IN, OUT, UNLEARNED, Pool
from hyperforget_jax.audits.probe import linear_probe
from hyperforget_jax.audits.quantisation import (
    QuantisedScores,
    quantise,
    quantised_scores,
)
from hyperforget_jax.audits.rates import Rates, bootstrap, rates, tpr_at
from hyperforget_jax.audits.relearning import draw_by_class, few_shot_relearning
from hyperforget_jax.audits.rmia import rmia
from hyperforget_jax.audits.ruli import ruli
from hyperforget_jax.audits.shadow import (
    Shadows,
    complementary_halves,
    train_shadows,
    unlearn_shadows,
)
from hyperforget_jax.audits.weights import weight_audits

__all__ = [
    "Audited",
    "Claim",
    "ForgettingScore",
    "IN",
    "Judgement",
    "KINDS",
    "Memorisation",
    "OUT",
    "OneRun",
    "Pool",
    "QuantisedScores",
    "Rates",
    "Shadows",
    "UNLEARNED",
    "bootstrap",
    "complementary_halves",
    "draw_by_class",
    "epsilon_bound",
    "epsilon_ceiling",
    "example_epsilons",
    "few_shot_relearning",
    "forgetting_score",
    "held_out_bound",
    "histograms",
    "invert",
    "judge",
    "klom",
    "linear_probe",
    "lira",
    "load_folder",
    "memorisation",
    "most_memorised",
    "neighbour_auc",
    "offline_lira",
    "one_run",
    "one_run_bound",
    "pose",
    "quantise",
    "quantised_scores",
    "rates",
    "recognised",
    "rmia",
    "ruli",
    "save_folder",
    "scaled_confidence",
    "shadow_claim",
    "tpr_at",
    "train_shadows",
    "ulira",
    "unlearn_shadows",
    "weight_audits",
]
