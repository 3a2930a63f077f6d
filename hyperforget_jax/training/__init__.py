"""The loop over minibatches, training one classifier, and training populations."""

from hyperforget_jax.training import loop
from hyperforget_jax.training.batch_stats import refresh_statistics
from hyperforget_jax.training.config import FitConfig
from hyperforget_jax.training.fit import NonFiniteLossError, fit
from hyperforget_jax.training.loop import Batch, LoopInfo, LoopState, LossFn
from hyperforget_jax.training.members import Objective
from hyperforget_jax.training.population import Population, fit_population
from hyperforget_jax.training.stream import fit_batches

__all__ = [
    "Batch",
    "FitConfig",
    "LoopInfo",
    "LoopState",
    "LossFn",
    "NonFiniteLossError",
    "Objective",
    "Population",
    "fit",
    "fit_batches",
    "fit_population",
    "loop",
    "refresh_statistics",
]
