"""Diagonal Fisher information, and FIUn: its configuration, statistics and update."""

from hyperforget_jax.fisher.diagonal import ESTIMATORS, diagonal
from hyperforget_jax.fisher.fiun_config import (
    PRESETS,
    FIUnConfig,
    as_config,
    check_effect,
)
from hyperforget_jax.fisher.forget_statistics import (
    ForgetStatistics,
    by_trace,
    data_fisher,
    forget_statistics,
    merge_statistics,
    on_scale,
    trace,
)
from hyperforget_jax.fisher.information import (
    Fisher,
    check_comparable,
    dampen,
    maximum,
    subtract,
    without,
)
from hyperforget_jax.fisher.update import UpdateInfo, update

__all__ = [
    "ESTIMATORS",
    "FIUnConfig",
    "Fisher",
    "ForgetStatistics",
    "PRESETS",
    "UpdateInfo",
    "as_config",
    "by_trace",
    "check_comparable",
    "check_effect",
    "dampen",
    "data_fisher",
    "diagonal",
    "forget_statistics",
    "maximum",
    "merge_statistics",
    "on_scale",
    "subtract",
    "trace",
    "update",
    "without",
]
