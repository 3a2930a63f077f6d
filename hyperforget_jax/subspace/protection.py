"""Changes from elsewhere, kept from what retained data use, in closed form."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.subspace.grams import Grams, layer_matrix, measure, with_layer

__all__ = ["measure_by_class", "protect"]

# Of the trace, and so of the largest eigenvalue: what float32 can solve for.
_RIDGE = 1e-6


@functools.partial(jax.jit, static_argnames=("classifier", "num_classes", "batch_size"))
def measure_by_class(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    num_classes: int,
    *,
    batch_size: int = 256,
) -> Grams:
    """Sum the Gram matrices of what every layer is given, class by class.

    Args:
        classifier: the model, with taps.
        variables: its variables.
        data: examples, ``[N]``.
        num_classes: C.
        batch_size: rows at once.

    Returns:
        As of :func:`measure`, with an axis of classes first: ``[C, G, D, D]`` by layer,
        and total weights ``[C]``.

    Raises:
        ValueError: as for :func:`measure`.
    """
    # In the order of classes, so that most minibatches are of one class, and those of
    # others are left out.
    data = data.take(jnp.argsort(data.y))

    def of_class(label: Array) -> Grams:
        own = data._replace(weight=jnp.where(data.y == label, data.weight, 0))
        return measure(classifier, variables, own, batch_size=batch_size, skip=True)

    return lax.map(of_class, jnp.arange(num_classes))


def protect(
    grams: Grams,
    changes: Any,
    forgotten: Array,
    retained: Array,
    factor: Any,
    logits_layer: str | None = None,
) -> Any:
    r"""Take out of a change what retained data would notice of it.

    The change :math:`\Delta` of a layer's matrix, its inputs as rows, becomes the one
    that minimises

    .. math:: \mathrm{E}_f \|(D - \Delta)^\top h\|^2
        + \lambda\, \mathrm{E}_r \|D^\top h\|^2,

    which is :math:`D = (F + \lambda R)^{-1} F \Delta` with the mean Gram matrices ``F``
    of forgotten and ``R`` of retained data: what forgotten data see of the change
    stays, as far as retained data do not see it too. In the layer that gives the logits
    the columns of classes that do not stay are left alone: retained data are to see
    their change. So are parameters without a Gram matrix, and everything where no rows
    of the forgotten classes were measured.

    Args:
        grams: by class, of :func:`measure_by_class`.
        changes: of the parameters, a tree like theirs.
        forgotten: the classes that are to go, bool, ``[C]``.
        retained: those that stay, bool, ``[C]``.
        factor: :math:`\lambda`, not negative.
        logits_layer: path of the layer that gives the logits, None for none.

    Returns:
        The changes, as they came but for the layers that were measured.
    """
    known = jnp.any(forgotten & (grams.total_weight > 0))

    def mean(gram: Array, of: Array) -> Array:
        weight = jnp.sum(jnp.where(of, grams.total_weight, 0))
        own = of.reshape(-1, *[1] * (gram.ndim - 1))
        return jnp.sum(jnp.where(own, gram, 0), axis=0) / jnp.maximum(weight, 1)

    def solve(gone: Array, kept: Array, change: Array) -> Array:
        both = gone + factor * kept
        size = jnp.trace(both)
        # Where a layer is given nothing but zeros, all of its change goes.
        both = both + jnp.where(size > 0, _RIDGE * size, 1) * jnp.eye(both.shape[0])
        seen = jnp.matmul(gone, change, precision=_EXACT)
        return jax.scipy.linalg.solve(both, seen, assume_a="pos")

    for path, gram in grams.values.items():
        gone, kept = mean(gram, forgotten), mean(gram, retained)
        layer = trees.get(changes, path)
        change = layer_matrix(layer, gone).astype(jnp.float32)
        new = jax.vmap(solve)(gone, kept, change)
        if path == logits_layer:
            new = jnp.where(retained[None, None], new, change)
        new = with_layer(layer, jnp.where(known, new, change))
        changes = trees.replace(changes, path, {**layer, **new})
    return changes


_EXACT = lax.Precision.HIGHEST
