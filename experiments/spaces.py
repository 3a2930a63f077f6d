"""Where the random search draws every method's settings from.

Ranges go from settings that change nothing to ones that ruin a model. Numbers of steps
are few, since each is a program of its own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import hyperforget_jax as hf


class Log(NamedTuple):
    """Uniform in the logarithm."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return _rounded(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))


class Uniform(NamedTuple):
    """Uniform."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return _rounded(rng.uniform(self.low, self.high))


class Choice(NamedTuple):
    """One of a few, each of which is compiled."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        return rng.choice(self.values).item()


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


Space = Mapping[str, Log | Uniform | Choice]

_RATE = Log(1e-4, 3e-2)
_TRAINED = {"learning_rate": _RATE, "steps": Choice((100, 300))}
_DRIVEN = {"learning_rate": Log(1e-5, 1e-2), "steps": Choice((20, 80))}

SPACES: Mapping[str, Space] = {
    "logit_mask": {},
    "finetune": _TRAINED,
    "ascent": _DRIVEN,
    "neggrad_plus": {**_TRAINED, "beta": Uniform(0.5, 0.99)},
    "ssd": {"alpha": Log(0.3, 30), "strength": Log(0.03, 1)},
    "fiun": {
        "alpha": Log(0.005, 0.9),
        "strength": Log(1e-4, 1),
        "deep_alpha": Log(0.1, 1),
        "deep_strength": Log(0.03, 1),
        "redistribution": Uniform(0, 0.8),
    },
    "pgu": {
        "threshold": Log(0.01, 3),
        "learning_rate": Log(0.3, 30),
        "end_rate": Log(0.1, 6),
        "forget_margin": Uniform(-15, -2),
        "objective": Choice(("targets", "margins")),
        "shrink": Uniform(0.3, 1),
        "temperature": Uniform(0.4, 2),
    },
    "assd": {"strength": Log(0.03, 1)},
    "bad_teaching": {**_TRAINED, "retained_share": Uniform(0.1, 1)},
    "boundary_expand": _DRIVEN,
    "boundary_shrink": {**_DRIVEN, "bound": Log(0.01, 1)},
    "cf_k": _TRAINED,
    "ct": _TRAINED,
    "damp": {},
    "eu_k": _TRAINED,
    "fcs": {
        "first_learning_rate": Log(1e-4, 0.3),
        "forget_learning_rate": Log(1e-5, 3e-2),
        "learning_rate": Log(1e-4, 0.1),
    },
    "fisher_noise": {"alpha": Log(1e-10, 1e-4)},
    "influence": {"scale": Log(0.1, 10), "damping": Log(1e-3, 1)},
    "jit_lipschitz": {**_DRIVEN, "sigma": Log(0.03, 3)},
    "kfade": {
        "step_size": Log(0.1, 3),
        "damping": Log(1e-3, 30),
        "steps": Choice((1, 3)),
    },
    "l1_sparse": {**_TRAINED, "penalty": Log(1e-6, 1e-2)},
    "lfssd": {"alpha": Log(0.3, 30), "strength": Log(0.03, 1)},
    "msg": {**_TRAINED, "fraction": Uniform(0.05, 0.95), "rate": Log(0.01, 1)},
    "random_labels": _TRAINED,
    "regun": _TRAINED,
    "rewind": {
        "step_size": Log(1e-3, 0.3),
        "noise": Log(1e-5, 0.1),
        "steps": Choice((50, 200)),
    },
    "salun": {**_TRAINED, "share": Uniform(0.1, 1)},
    "scrub": {
        "learning_rate": Log(5e-5, 1e-2),
        "alpha": Log(0.1, 3),
        "gamma": Log(0.1, 3),
        "max_epochs": Choice((2, 4)),
    },
    "svd_forgetting": {
        "alpha_retain": Log(1, 1e4),
        "alpha_forget": Log(0.1, 1e3),
    },
    "unsir": {
        "impair_learning_rate": Log(1e-3, 0.1),
        "repair_learning_rate": Log(1e-4, 3e-2),
    },
}

# They know of classes, and not of rows.
CLASS_ONLY = ("damp", "logit_mask", "unsir")
# PGU reads held-out rows where a forgotten row is to be answered as a held-out one of
# its kind is: not where the kind is to be forgotten, or the label is wrong.
_LIKE_HELD_OUT = ("random", "memorised")


def given(method: str, scenario: str, probe: hf.Examples) -> dict[str, hf.Examples]:
    """Give a method the held-out rows that it reads, if any, by argument."""
    is_read = method == "regun" or method == "pgu" and scenario in _LIKE_HELD_OUT
    return {"probe": probe} if is_read else {}


def draws(method: str, scenario: str, trials: int) -> list[dict[str, Any]]:
    """Draw the settings to try, the same in every run; the first are the defaults."""
    space = SPACES[method]
    rng = np.random.default_rng([*method.encode(), 0, *scenario.encode()])
    first = [] if method == "eu_k" else [{}]  # It has none: it trains from scratch.
    if not space:
        return first
    while len(first) < trials:
        first.append({name: space[name].draw(rng) for name in sorted(space)})
    return first
