"""Diffusion over pytrees: noise schedules, what networks predict, and samplers."""

from hyperforget_jax.diffusion.parameterisation import (
    PREDICTIONS,
    target,
    to_x0,
)
from hyperforget_jax.diffusion.samplers import (
    DenoiseFn,
    Trajectory,
    sample,
    step,
    trajectory,
)
from hyperforget_jax.diffusion.schedules import (
    SCHEDULES,
    Schedule,
    mix,
    schedule,
)

__all__ = [
    "DenoiseFn",
    "PREDICTIONS",
    "SCHEDULES",
    "Schedule",
    "Trajectory",
    "mix",
    "sample",
    "schedule",
    "step",
    "target",
    "to_x0",
    "trajectory",
]
