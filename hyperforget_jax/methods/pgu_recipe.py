"""How projected-gradient unlearning goes about it: settings and presets."""

import dataclasses
from typing import Any

import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.ranks import RANK_RULES, check_rank_rule

__all__ = ["PRESETS", "Recipe", "recipe"]

OBJECTIVES = ("targets", "published", "elsewhere")
OPTIMIZERS = ("normalised", "sgd", "adam", "coordinates")
RANKS = (*RANK_RULES, "soft", "none")
STOPS = ("never", "accuracy")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of projected-gradient unlearning. Made by :func:`recipe`.

    Attributes:
        threshold: of the rank rule; for ``"soft"`` the softness.
        learning_rate: at the first step.
        end_rate: at the last step, approached exponentially.
        out: in the targets, the margin ``log p_y - log(1 - p_y)`` of a label that is
            driven out. A label that was never learnt has some probability left: to
            drive it further shows.
        shrink: in the targets, what is left of the margin that a held-out example of
            the same rank has: a guess should not be sure.
        temperature: of the answers other than the label, in the targets.
        offset: ``o`` of the published loss ``-log(1 + o - p_y)``.
        entropy: weight of the published loss's entropy term, which is maximised;
            negative to minimise it.
        rank: what of the retained data's directions is protected: a rule of
            :func:`hyperforget_jax.subspace.keep`, ``"soft"`` for
            :func:`hyperforget_jax.subspace.soft_complement`, or ``"none"``.
        biases: whether biases move too, in homogeneous coordinates.
        free_columns: whether, for a class request, the forgotten classes' columns of
            the head are left unprotected: what they answer to retained data is to
            vanish anyhow.
        objective: ``"targets"``; ``"published"``; or ``"elsewhere"``, the published
            loss for wrong labels, whose entropy is that of the other labels.
        optimizer: ``"normalised"``, gradient descent with steps in units of a layer's
            outputs (:func:`hyperforget_jax.subspace.projection.by_room`), ``"sgd"`` or
            ``"adam"``, each projected last; or ``"coordinates"``, Adam on coordinates
            of the complement.
        stop: looked at before every round, on the forget data: ``"accuracy"``, once
            they are answered no better than held-out data, keeping this round's model
            or the one before, whichever is nearer; or ``"never"``.
        rounds: at most how many.
        round_steps: minibatches a round; None for one pass over the forget data.
        batch_size: rows a minibatch, and at once in measuring.
    """

    threshold: float | Array = 0.95
    learning_rate: float | Array = 1e-3
    end_rate: float | Array = 1e-3
    out: float | Array = -10.0
    shrink: float | Array = 0.7
    temperature: float | Array = 0.8
    offset: float | Array = 0.05
    entropy: float | Array = 0.2
    rank: str = "nuclear"
    biases: bool = True
    free_columns: bool = True
    objective: str = "targets"
    optimizer: str = "adam"
    stop: str = "never"
    rounds: int = 10
    round_steps: int | None = 10
    batch_size: int = 128


PRESETS: dict[str, Recipe] = {
    # After the published code, with the departures that hyperforget_jax.pgu names.
    "published": Recipe(
        threshold=0.95,
        learning_rate=0.05,
        end_rate=0.01,
        rank="nuclear",
        biases=False,
        free_columns=False,
        objective="published",
        optimizer="sgd",
        stop="accuracy",
        rounds=99,
        round_steps=None,
    ),
    "repaired": Recipe(
        threshold=0.1,
        learning_rate=8.0,
        end_rate=1.6,
        rank="soft",
        optimizer="normalised",
    ),
}


def recipe(preset: str = "repaired", **changes: Any) -> Recipe:
    """A preset, or one with changes.

    Args:
        preset: ``"published"`` or ``"repaired"``.
        **changes: any attribute of :class:`Recipe`.

    Raises:
        ValueError, TypeError: an unknown preset, attribute or choice, or a number out
            of its range. Tracers pass.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}.")
    known = {field.name for field in dataclasses.fields(Recipe)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise TypeError(f"hf.pgu takes no {unknown}; it takes {sorted(known)}.")
    made = dataclasses.replace(PRESETS[preset], **changes)
    for name, allowed in (
        ("rank", RANKS),
        ("objective", OBJECTIVES),
        ("optimizer", OPTIMIZERS),
        ("stop", STOPS),
    ):
        if getattr(made, name) not in allowed:
            raise ValueError(
                f"{name} must be one of {allowed}, got {getattr(made, name)!r}."
            )
    if made.rank in RANK_RULES:
        check_rank_rule(made.rank, made.threshold)
    else:
        checks.check_positive(threshold=made.threshold)
    checks.check_positive(
        learning_rate=made.learning_rate,
        end_rate=made.end_rate,
        temperature=made.temperature,
        shrink=made.shrink,
    )
    checks.check_sizes(
        rounds=made.rounds,
        round_steps=1 if made.round_steps is None else made.round_steps,
        batch_size=made.batch_size,
    )
    for name in (
        "threshold",
        "learning_rate",
        "end_rate",
        "temperature",
        "out",
        "entropy",
    ):
        value = getattr(made, name)
        if checks.is_concrete(value) and not np.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}.")
    offset = made.offset
    if checks.is_concrete(offset) and not (np.isfinite(offset) and offset >= 0):
        raise ValueError(f"offset must be non-negative, got {offset}.")
    return made
