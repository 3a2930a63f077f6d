"""Curvature of layers as Kronecker products: what went in, and gradients at what came.

K-FAC: the Gauss-Newton matrix of a layer, summed over examples, is taken for the
product of two sums, divided by how many places were summed.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import subspace, trees
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.microbatch import sum_over
from hyperforget_jax.models.taps import tap_shapes
from hyperforget_jax.subspace import Grams

__all__ = ["Factors", "curvature"]

_EXACT = lax.Precision.HIGHEST


class Factors(NamedTuple):
    """Sums whose Kronecker products are curvatures of layers, up to a count.

    Attributes:
        inputs: Gram matrices of what each layer was given.
        outputs: of the gradients with respect to what it gave, labels drawn from the
            model's own predictions, float32, ``[G, O / G, O / G]``.
        places: by layer, of how many outputs an example has, float32, ``[]``, summed.
    """

    inputs: Grams
    outputs: Grams
    places: dict[str, Array]


def curvature(
    classifier: Classifier, variables: Variables, data: Examples, batch_size: int
) -> Factors:
    """Sum the Kronecker factors of every tapped layer, in evaluation mode.

    Args:
        classifier: the model, with ``tapped``.
        variables: its variables.
        data: examples, ``[N]``, weighted.
        batch_size: rows at once.
    """
    inputs = subspace.measure(classifier, variables, data, batch_size=batch_size)
    tapped: Any = classifier.tapped
    if tapped is None:
        raise ValueError(
            "hf.rivals.kfade needs gradients with respect to what layers give, and the "
            f"classifier ({classifier.description}) is not tapped: build it with "
            "hf.from_linen, hf.from_nnx or hf.from_functions."
        )
    calls = tap_shapes(classifier, variables, data.x)
    shapes = {p: [tap.output_shape for tap in taps] for p, taps in calls.items()}
    groups = {path: gram.shape[0] for path, gram in inputs.values.items()}
    widths = {
        path: _width(trees.get(variables["params"], path), inputs.values[path])
        for path in shapes
    }

    def of_row(x: Array) -> dict[str, Array]:
        shifts = {
            path: tuple(jnp.zeros(shape, jnp.float32) for shape in calls)
            for path, calls in shapes.items()
        }
        logits, pull = jax.vjp(lambda s: tapped(variables, x[None], s)[0], shifts)
        p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[0]
        # Sums over labels of sqrt(p_y) (e_y - p), squared, give diag(p) - p p^T.
        seeds = jnp.sqrt(p)[:, None] * (jnp.eye(p.size) - p[None, :])

        def of_label(seed: Array) -> dict[str, Array]:
            (outputs,) = pull(seed[None].astype(logits.dtype))
            return {path: gram(path, calls) for path, calls in outputs.items()}

        summed = lax.map(of_label, seeds)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), summed)

    def gram(path: str, calls: tuple[Array, ...]) -> Array:
        rows = jnp.concatenate([g.reshape(-1, widths[path]) for g in calls])
        rows = rows.reshape(rows.shape[0], groups[path], -1)
        return jnp.einsum("pgi,pgj->gij", rows, rows, precision=_EXACT)

    def of_batch(batch: Examples) -> dict[str, Array]:
        weight = batch.weight.astype(jnp.float32)
        return jax.tree.map(
            lambda leaf: jnp.tensordot(weight, leaf, 1, precision=_EXACT),
            jax.vmap(of_row)(batch.x),
        )

    summed = sum_over(of_batch, data, batch_size)
    places = {
        path: inputs.total_weight
        * sum(math.prod(shape) // widths[path] for shape in calls)
        for path, calls in shapes.items()
    }
    return Factors(inputs, Grams(summed, inputs.total_weight), places)


def _width(layer: Any, gram: Array) -> int:
    """How many numbers a layer gives at one place, all groups together."""
    has_bias = "bias" in layer
    return layer["kernel"].size // (gram.shape[-1] - has_bias)
