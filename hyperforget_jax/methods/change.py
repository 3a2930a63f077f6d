"""How much a request changed the model: a part of every method's info."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperforget_jax import checks, losses
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

    def __str__(self) -> str:
        if not checks.is_concrete(self):
            return repr(self)
        moved, distance, after, before = map(_three_digits, self)
        said = f"share of parameters moved {moved}, relative distance {distance}"
        if self.forget_accuracy is not None:
            said += f", accuracy on the forget data {before} before, {after} after"
        return said

    def __repr__(self) -> str:
        say = _three_digits if checks.is_concrete(self) else repr
        pairs = zip(self._fields, map(say, self), strict=True)
        return f"Change({', '.join(f'{name}={said}' for name, said in pairs)})"


def _three_digits(leaf: Any) -> str:
    of_each: Any = {"float_kind": "{:.3g}".format}
    return np.array2string(np.asarray(leaf), formatter=of_each)


def change(
    classifier: Classifier,
    before: Variables,
    after: Variables,
    forget: Examples | None = None,
    *,
    batch_size: int = 512,
) -> Change:
    """Compare a model before and after a request.

    The accuracies are those on ``forget``, where the method reads it.
    """
    old, new = jax.tree.leaves(before["params"]), jax.tree.leaves(after["params"])
    differ = [jnp.sum(a != b, dtype=jnp.float32) for a, b in zip(old, new, strict=True)]
    moved = sum(differ, start=jnp.float32(0)) / sum(leaf.size for leaf in old)
    old, new = (optax.tree.cast(leaves, jnp.float32) for leaves in (old, new))
    norm = optax.tree.norm(old)
    distance = optax.tree.norm(optax.tree.sub(new, old)) / jnp.where(norm > 0, norm, 1)
    if forget is None:
        return Change(moved, distance)

    def accuracy(variables: Variables) -> Array:
        logits = predictions.logits(
            classifier, variables, forget.x, batch_size=batch_size
        )
        return losses.weighted_mean(logits.argmax(-1) == forget.y, forget.weight)

    return Change(moved, distance, accuracy(after), accuracy(before))
