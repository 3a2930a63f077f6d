"""Audits of forgetting: functions of one array of confidences, models by examples."""

from hyperforget_jax.audits.bounds import (
    clopper_pearson,
    epsilon_bound,
    epsilon_ceiling,
    held_out_bound,
    one_run_bound,
)
from hyperforget_jax.audits.claims import Claim, pose, shadow_claim
from hyperforget_jax.audits.divergence import klom, klom_floor
from hyperforget_jax.audits.folder import Folder, load_folder, save_folder
from hyperforget_jax.audits.forgetting import (
    ForgettingScore,
    example_epsilons,
    forgetting_score,
)
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
from hyperforget_jax.audits.one_run import OneRun, one_run
from hyperforget_jax.audits.pool import IN, OUT, UNLEARNED, Pool
from hyperforget_jax.audits.rates import Rates, bootstrap, rates, tpr_at
from hyperforget_jax.audits.rmia import rmia
from hyperforget_jax.audits.ruli import ruli
from hyperforget_jax.audits.shadow import (
    Shadows,
    complementary_halves,
    train_shadows,
    unlearn_shadows,
)

__all__ = [
    "IN",
    "KINDS",
    "OUT",
    "UNLEARNED",
    "Audited",
    "Claim",
    "Folder",
    "ForgettingScore",
    "Judgement",
    "Memorisation",
    "OneRun",
    "Pool",
    "Rates",
    "Shadows",
    "bootstrap",
    "clopper_pearson",
    "complementary_halves",
    "epsilon_bound",
    "epsilon_ceiling",
    "example_epsilons",
    "forgetting_score",
    "held_out_bound",
    "judge",
    "klom",
    "klom_floor",
    "lira",
    "load_folder",
    "memorisation",
    "most_memorised",
    "offline_lira",
    "one_run",
    "one_run_bound",
    "pose",
    "rates",
    "rmia",
    "ruli",
    "save_folder",
    "scaled_confidence",
    "shadow_claim",
    "tpr_at",
    "train_shadows",
    "ulira",
    "unlearn_shadows",
]
