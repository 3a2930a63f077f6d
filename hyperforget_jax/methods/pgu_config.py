"""The settings of projected-gradient unlearning."""

import dataclasses

import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.spectrum import RANK_RULES, check_rank_rule

__all__ = ["PGUConfig"]

_CHOICES = {
    "rank": (*RANK_RULES, "soft", "none"),
    "objective": ("targets", "margins", "published", "elsewhere"),
    "optimizer": ("normalised", "sgd", "adam", "coordinates"),
    "stop": ("never", "accuracy"),
}
_NUMBERS = (
    *("threshold", "learning_rate", "end_rate", "forget_margin"),
    *("shrink", "temperature", "offset", "entropy"),
)


@dataclasses.dataclass(frozen=True)
class PGUConfig:
    """Settings of projected-gradient unlearning. The defaults are not in the paper.

    The more a direction is used by retained data, the less of a step is let through,
    instead of all or nothing; biases move too; the head's columns of a forgotten class
    are left free; the loss has a target, so it ends; steps are in units of outputs.

    Attributes:
        threshold: of the rank rule; for ``"soft"`` the softness.
        learning_rate: at the first step.
        end_rate: at the last step, approached exponentially.
        forget_margin: in the targets, the margin ``log p_y - log(1 - p_y)`` of a label
            that is driven out. A label that was never learnt has some probability left:
            to drive it further shows. Under ``"margins"`` it is that of a class's rows
            each, and of single rows their mean: they keep their distances from each
            other, so some labels may stay likely.
        shrink: in the targets, what is left of the margin that a held-out example of
            the same rank has: a target should not be sure.
        temperature: of the labels other than ``y``, in the targets.
        offset: ``o`` of the published loss ``-log(1 + o - p_y)``.
        entropy: weight of the published loss's entropy term, which is maximised;
            negative to minimise it.
        rank: what of the retained data's directions is protected: a rule of
            :func:`hyperforget_jax.subspace.keep`, ``"soft"`` for
            :func:`hyperforget_jax.subspace.soft_null_space`, or ``"none"``.
        biases: whether biases move too, in homogeneous coordinates.
        free_columns: whether, for a class request, the forgotten classes' columns of
            the head are left unprotected: their logits on retained data are to vanish
            anyhow.
        objective: ``"targets"``, the divergence from them; ``"margins"``, which looks
            at the label's margin by itself, and so gets nearer to the confidence of
            retrained models: try a ``learning_rate`` of about 1, or a searched recipe;
            ``"published"``; or ``"elsewhere"``, the published loss for wrong labels,
            whose entropy is that of the other labels.
        optimizer: ``"normalised"``, gradient descent with steps in units of a layer's
            outputs (:func:`hyperforget_jax.subspace.projection.scale_by_gram`),
            ``"sgd"`` or ``"adam"``, each projected last; or ``"coordinates"``, Adam on
            coordinates of the null space.
        stop: decided before every round, on the forget data: ``"accuracy"``, once it is
            no better than on held-out data, keeping this round's model or the one
            before, whichever is nearer; or ``"never"``.
        rounds: at most how many.
        round_steps: minibatches a round; None for one epoch of the forget data.
        batch_size: rows a minibatch, and at once in measuring.

    Raises:
        ValueError, TypeError: an unknown choice, or a number out of its range. Tracers
            pass.
    """

    threshold: float | Array = 0.1
    learning_rate: float | Array = 8.0
    end_rate: float | Array = 1.6
    forget_margin: float | Array = -10.0
    shrink: float | Array = 0.7
    temperature: float | Array = 0.8
    offset: float | Array = 0.05
    entropy: float | Array = 0.2
    rank: str = "soft"
    biases: bool = True
    free_columns: bool = True
    objective: str = "targets"
    optimizer: str = "normalised"
    stop: str = "never"
    rounds: int = 10
    round_steps: int | None = 10
    batch_size: int = 128

    @classmethod
    def rows(cls) -> "PGUConfig":
        """Return the settings for single rows that a network knows by heart.

        The default's steps end before such rows are where they should be, and more of
        them cost more of what is retained. Adam gets there in as many, and since it
        does, the target is a held-out row's margin itself (``shrink=1``). It wants a
        probe; class requests are for the default.
        """
        return cls(optimizer="adam", learning_rate=2.5e-3, end_rate=5e-4, shrink=1.0)

    @classmethod
    def published(cls) -> "PGUConfig":
        """Return the published loss, rank rule, frozen biases and schedule.

        It stops at held-out accuracy where there is a probe, and for a class, or
        without a probe, when no label to forget is predicted; after 99 epochs at most.
        Departures: the rate decays by steps and not by epochs, minibatches are shuffled
        and dropout is off, patches have the layer's true strides, ``k`` is without the
        ``+ 1`` of the code for classes (which stops for retained accuracy alone), and
        the accuracy that stops is that of the present request.
        """
        return cls(
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
        )

    def __post_init__(self):
        for name, allowed in _CHOICES.items():
            checks.check_one_of(name, getattr(self, name), allowed)
        if self.rank in RANK_RULES:
            check_rank_rule(self.rank, self.threshold)
        else:
            checks.check_positive(threshold=self.threshold)
        checks.check_positive(
            learning_rate=self.learning_rate,
            end_rate=self.end_rate,
            temperature=self.temperature,
            shrink=self.shrink,
        )
        checks.check_sizes(rounds=self.rounds, batch_size=self.batch_size)
        if self.round_steps is not None:
            checks.check_sizes(round_steps=self.round_steps)
        for name in _NUMBERS:
            value = getattr(self, name)
            if checks.is_concrete(value) and not np.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}.")
        if checks.is_concrete(self.offset) and float(self.offset) < 0:
            raise ValueError(f"offset must be non-negative, got {self.offset}.")
