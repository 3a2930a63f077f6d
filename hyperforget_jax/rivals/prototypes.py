"""Prototypes: the mean input of each class, in every layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.microbatch import sum_over
from hyperforget_jax.models.taps import rows_of

__all__ = ["Prototypes", "prototypes", "separability"]


class Prototypes(NamedTuple):
    """Sums over the examples of each class, of layer inputs averaged over places.

    Attributes:
        sums: by layer, float32, ``[C, G, D]``: ``G`` feature groups, inputs in the
            order of the kernel's rows.
        squares: by layer, of the inputs' squared norms, float32, ``[C]``.
        count: of examples, float32, ``[C]``.
    """

    sums: dict[str, Array]
    squares: dict[str, Array]
    count: Array

    def without(self, classes: Array) -> "Prototypes":
        """Erase those of some classes, bool, ``[C]``."""

        def erase(leaf: Array) -> Array:
            return jnp.where(classes.reshape(-1, *[1] * (leaf.ndim - 1)), 0, leaf)

        return jax.tree.map(erase, self)


def prototypes(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    num_classes: int,
    batch_size: int,
) -> Prototypes:
    """Sum what every tapped layer is given, class by class, in evaluation mode.

    Args:
        classifier: the model, with ``tapped``.
        variables: its variables.
        data: examples, ``[N]``, weighted.
        num_classes: C.
        batch_size: rows at once.

    Raises:
        ValueError: a classifier that is not tapped.
    """
    tapped = classifier.tapped
    if tapped is None:
        raise ValueError(
            "hf.rivals.damp needs to see what layers are given, and the classifier "
            f"({classifier.description}) is not tapped: build it with hf.from_linen, "
            "hf.from_nnx or hf.from_functions."
        )

    def of_row(x: Array) -> dict[str, Array]:
        _, taps = tapped(variables, x[None], {})
        found = {}
        for path, calls in taps.items():
            kernel = trees.get(variables["params"], path)["kernel"].shape
            rows = [rows_of(tap, kernel, False)[:, 0] for tap in calls]
            found[path] = jnp.mean(jnp.concatenate(rows, axis=1), axis=1)
        return found

    def of_batch(batch: Examples) -> Prototypes:
        # One row at a time: whatever axes a layer has, all are of this one example.
        given = jax.vmap(of_row)(batch.x)
        is_class = batch.y[:, None] == jnp.arange(num_classes)[None, :]
        weight = jnp.where(is_class, batch.weight[:, None], 0).astype(jnp.float32)

        def by_class(leaf: Array) -> Array:
            return jnp.tensordot(weight, leaf, (0, 0), precision=lax.Precision.HIGHEST)

        squares = {p: jnp.sum(jnp.square(g), axis=(1, 2)) for p, g in given.items()}
        return Prototypes(
            jax.tree.map(by_class, given),
            jax.tree.map(by_class, squares),
            jnp.sum(weight, axis=0),
        )

    return sum_over(of_batch, data, batch_size)


def separability(known: Prototypes) -> dict[str, Any]:
    """Compute how well layers tell classes apart, as a share of the best of them.

    Returns:
        By layer, the share of its inputs' variance that is between the classes' means,
        divided by the largest of all layers, float32 in [0, 1], ``[]``.
    """
    n = jnp.maximum(jnp.sum(known.count), 1)
    count = jnp.where(known.count > 0, known.count, 1)
    share = {}
    for path, sums in known.sums.items():
        centre = jnp.sum(jnp.square(jnp.sum(sums, axis=0))) / n
        between = jnp.sum(jnp.sum(jnp.square(sums), axis=(1, 2)) / count) - centre
        total = jnp.sum(known.squares[path]) - centre
        # Not more than one, nor below zero, but for rounding.
        safe = between / jnp.where(total > 0, total, 1)
        share[path] = jnp.where(total > 0, jnp.clip(safe, 0, 1), 0)
    largest = jnp.max(jnp.stack(list(share.values())))
    return {p: s / jnp.where(largest > 0, largest, 1) for p, s in share.items()}
