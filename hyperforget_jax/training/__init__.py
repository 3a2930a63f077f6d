"""The minibatch loop, training one classifier, and training populations."""

from hyperforget_jax.training.descent import (
    Batch,
    DescentInfo,
    DescentState,
    LossFn,
    descend,
    run,
    start,
)
from hyperforget_jax.training.fitting import NonFiniteLossError, fit
from hyperforget_jax.training.population import (
    Objective,
    Population,
    fit_population,
)
from hyperforget_jax.training.statistics import refresh_statistics

__all__ = [
    "Batch",
    "DescentInfo",
    "DescentState",
    "LossFn",
    "NonFiniteLossError",
    "Objective",
    "Population",
    "descend",
    "fit",
    "fit_population",
    "refresh_statistics",
    "run",
    "start",
]
