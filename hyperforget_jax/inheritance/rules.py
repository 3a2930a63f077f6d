"""How a model is changed by what is to be forgotten: the rule and its presets."""

import dataclasses
from typing import Any

import jax
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array
from hyperforget_jax.fisher import ESTIMATORS, MERGES

__all__ = ["PRESETS", "Rule", "rule"]


def _static(default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule of Fisher unlearning. Made by :func:`rule`, mostly from a preset.

    A parameter is selected where ``F_f > alpha * F_D`` and multiplied by
    ``min(1, strength * F_D / F_f)``; ``F_f`` is merged over the roots.

    Attributes:
        alpha: selection threshold; under ``only_columns`` that of the columns, and
            without meaning for a request of rows.
        strength: ``lambda``; likewise.
        deep_alpha: under ``only_columns``, the threshold of the layers before the head,
            and for a request of rows of the head too.
        deep_strength: likewise their ``lambda``.
        fold: how much of a forgotten class's column is added to those of the classes
            that its examples resemble; zero for nothing.
        folds: whether ``fold`` is not zero; set by :func:`rule`.
        scope: parameters that are dampened: ``"head"``, ``"all"`` or ``"none"``.
        shares: whether ``F_f`` counts as a share of ``F_D``, multiplied by the share of
            the root's data that is to be forgotten, so that ``alpha`` lies in (0, 1).
        match: whether ``F_f`` is brought to each descendant's scale, by its trace.
        centre: whether the head is first centred over the classes that are left.
        only_columns: whether, for a class request, of the head only the columns of the
            requested classes are dampened, and everything else on terms of its own.
        renew: whether, for a class request, the requested classes' columns of the head
            become fresh ones, and the classes unknown: their logits are masked, as
            they are in a model that was trained without them.
        estimator: of the Fishers, see :func:`hyperforget_jax.fisher.diagonal`.
        batch_size: rows at once; under ``"batch_gradient"`` part of the definition.
        merge: of several roots' Fishers, see :func:`hyperforget_jax.fisher.merge`.
    """

    alpha: float | Array = 1.0
    strength: float | Array = 1.0
    deep_alpha: float | Array = 0.5
    deep_strength: float | Array = 0.25
    fold: float | Array = 0.0
    folds: bool = _static(False)
    scope: str = _static("head")
    shares: bool = _static(False)
    match: bool = _static(False)
    centre: bool = _static(False)
    only_columns: bool = _static(False)
    renew: bool = _static(False)
    estimator: str = _static("per_example")
    batch_size: int = _static(256)
    merge: str = _static("max")


PRESETS: dict[str, Rule] = {
    # As published, and as its code has it: the ratio of minibatch Fishers of the last
    # layer decides, and scales.
    "published": Rule(estimator="batch_gradient", batch_size=32),
    # What repairs it: exact Fishers on the descendant's scale, thresholds as shares of
    # Fisher, a centred head of which the requested columns alone are touched, and the
    # layers before it dampened too.
    "repaired": Rule(
        alpha=0.03,
        strength=0.003,
        deep_alpha=0.9,
        scope="all",
        shares=True,
        match=True,
        centre=True,
        only_columns=True,
    ),
    # What came nearest to retraining: see Rule.fold and Rule.renew.
    "folded": Rule(fold=0.3, folds=True, scope="none", centre=True, renew=True),
}


def rule(preset: str = "folded", **changes: Any) -> Rule:
    """A preset, with changes.

    Args:
        preset: ``"published"`` (the ratio rule of arXiv 2408.08493, ``alpha`` and
            ``lambda`` one, on the last layer), ``"repaired"`` or ``"folded"``.
        **changes: any attribute of :class:`Rule`.

    Raises:
        ValueError: unknown preset or choice, or a number that is not positive.
        TypeError: no such attribute.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {tuple(PRESETS)}, got {preset!r}.")
    made = dataclasses.replace(PRESETS[preset], **changes)
    folds = not (checks.is_concrete(made.fold) and np.all(np.asarray(made.fold) == 0))
    made = dataclasses.replace(made, folds=folds)
    if made.scope == "none" and not (made.folds or made.renew):
        raise ValueError(
            "The rule does nothing: scope='none' dampens nothing, and it neither folds "
            "nor renews."
        )
    checks.check_positive(
        alpha=made.alpha,
        strength=made.strength,
        deep_alpha=made.deep_alpha,
        deep_strength=made.deep_strength,
    )
    checks.check_sizes(batch_size=made.batch_size)
    if checks.is_concrete(made.fold) and not made.fold >= 0:
        raise ValueError(f"fold must not be negative, got fold={made.fold}.")
    for name, allowed in (
        ("scope", ("head", "all", "none")),
        ("estimator", ESTIMATORS),
        ("merge", MERGES),
    ):
        if getattr(made, name) not in allowed:
            raise ValueError(
                f"{name} must be one of {allowed}, got {getattr(made, name)!r}."
            )
    if made.shares and made.estimator == "batch_gradient":
        raise ValueError(
            "shares=True needs estimator='per_example': the Fisher of minibatches is "
            "not a mean over examples, of which some could be a share."
        )
    return made
