"""The one array that every audit reads: a confidence for each model and example."""

import dataclasses

import numpy as np
from scipy.special import expit

__all__ = ["IN", "LARGEST", "OUT", "UNLEARNED", "Pool"]

OUT, IN, UNLEARNED = 0, 1, 2
"""What an example is to a model: never seen, trained with, or unlearned."""

LARGEST = 1e6
"""The size of a confidence of infinite logits, which no finite one exceeds."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Logit-scaled confidences of many models on the same examples.

    Attributes:
        phi: ``log p_y - log(1 - p_y)`` of each example's own label, computed from
            logits (a float32 softmax loses all above 16), float64, ``[K, M]``.
        world: what each example is to each model, int8, ``[K, M]``: :data:`OUT`,
            :data:`IN` or :data:`UNLEARNED`.

    Raises:
        TypeError: no arrays of numbers.
        ValueError: not two axes, shapes that differ, no models or examples, a world
            that is unknown, or confidences that are NaN.
    """

    phi: np.ndarray
    world: np.ndarray

    def __post_init__(self):
        phi, world = np.asarray(self.phi), np.asarray(self.world)
        if phi.dtype.kind not in "fiu" or world.dtype.kind not in "iub":
            raise TypeError(
                "phi must hold real numbers and world whole ones, got "
                f"{phi.dtype} and {world.dtype}."
            )
        if phi.ndim != 2 or phi.shape != world.shape or not phi.size:
            raise ValueError(
                "phi and world must be [models, examples] and neither empty, got "
                f"shapes {phi.shape} and {world.shape}."
            )
        if not np.isin(world, (OUT, IN, UNLEARNED)).all():
            raise ValueError(
                f"world must be {OUT} (never seen), {IN} (trained with) or {UNLEARNED} "
                f"(unlearned), got {sorted(set(np.unique(world).tolist()))}."
            )
        bad = np.isnan(phi)
        if bad.any():
            model, example = np.argwhere(bad)[0].tolist()
            raise ValueError(
                f"phi must not be NaN, got {int(bad.sum())} of them, the first in "
                f"model {model} at example {example}: leave out models that diverged."
            )
        phi = np.clip(phi.astype(np.float64), -LARGEST, LARGEST)
        object.__setattr__(self, "phi", phi)
        object.__setattr__(self, "world", world.astype(np.int8))

    @property
    def probability(self) -> np.ndarray:
        """The softmax probability of each example's own label, ``[K, M]``."""
        return expit(self.phi)

    def is_(self, world: int) -> np.ndarray:
        """Return where an example is that to a model, bool, ``[K, M]``."""
        return self.world == world

    def check_enough(self, needed: int, *worlds: int) -> None:
        """Raise unless every example has enough models of each of some worlds.

        Args:
            needed: models a world.
            *worlds: of which to have as many.

        Raises:
            ValueError: too few, with how many there are and the example.
        """
        names = {OUT: "OUT", IN: "IN", UNLEARNED: "UNLEARNED"}
        for world in worlds:
            counts = self.is_(world).sum(axis=0)
            if counts.min() < needed:
                raise ValueError(
                    f"This audit needs at least {needed} {names[world]} models for "
                    f"every example; example {counts.argmin()} has {counts.min()}."
                )
