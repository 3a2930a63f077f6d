"""How much a request changed the model: a part of every method's info."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.models import predictions

__all__ = ["Change", "change"]


class Change(NamedTuple):
    """How much a request changed the model.

    Attributes:
        moved: share of the parameters that changed, float32, ``[]``.
        distance: Euclidean norm of the change as a share of the parameters' own before,
            float32, ``[]``. Near 1 or above, little of the model is left.
        forget_accuracy: on the data to be forgotten, afterwards, float32, ``[]``; None
            where the method does not read them.
        forget_accuracy_before: likewise, before.
    """

    moved: Array
    distance: Array
    forget_accuracy: Array | None = None
    forget_accuracy_before: Array | None = None


def change(
    classifier: Classifier,
    before: Variables,
    after: Variables,
    forget: Examples | None = None,
    *,
    batch_size: int = 512,
) -> Change:
    """Compare a model before and after a request.

    Args:
        classifier: the model.
        before: its variables.
        after: likewise, of the same structure.
        forget: the data to be forgotten, ``[F]``, where the method reads them.
        batch_size: the most inputs whose activations are held at once.
    """
    moved, distance = parameter_change(before["params"], after["params"])
    if forget is None:
        return Change(moved, distance)

    def accuracy(variables: Variables) -> Array:
        logits = predictions.logits(
            classifier, variables, forget.x, batch_size=batch_size
        )
        right = (jnp.argmax(logits, -1) == forget.y).astype(jnp.float32)
        return losses.weighted_mean(right, forget.weight)

    return Change(moved, distance, accuracy(after), accuracy(before))


def parameter_change(before: Any, after: Any) -> tuple[Array, Array]:
    """Compute the share of entries that changed, and the relative norm of the change.

    Args:
        before: parameters.
        after: parameters of the same structure.

    Returns:
        Both float32, ``[]``.
    """
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    count = sum(old.size for old, _ in pairs)
    moved = sum(jnp.sum(old != new, dtype=jnp.float32) for old, new in pairs)

    def square(leaf: Array) -> Array:
        return jnp.sum(jnp.square(leaf.astype(jnp.float32)))

    norm = sum(square(old) for old, _ in pairs)
    apart = sum(
        square(new.astype(jnp.float32) - old.astype(jnp.float32)) for old, new in pairs
    )
    distance = jnp.sqrt(apart / jnp.where(norm > 0, norm, 1))
    return jnp.asarray(moved / count, jnp.float32), jnp.asarray(distance, jnp.float32)
