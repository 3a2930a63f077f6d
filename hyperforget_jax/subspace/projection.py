"""Changes of parameters that the data do not notice, to first order in every layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.grams import Grams, layer_matrix, map_layers
from hyperforget_jax.subspace.spectrum import Spectrum

__all__ = [
    "Projector",
    "drift",
    "from_coordinates",
    "null_space",
    "project_gradients",
    "relative_drift",
    "scale_by_gram",
    "soft_null_space",
    "to_coordinates",
    "without_free",
]

_EXACT = lax.Precision.HIGHEST
# A smaller share of an input than this is rounding, and not to be blown up.
_LEAST_SHARE = 1e-4


class Projector(NamedTuple):
    """Where parameters may move: a share of every direction, layer by layer.

    A change of a layer's matrix (its kernel, and its bias as the last row if the Gram
    matrices have one) becomes ``U diag(share) U^T`` times that change. Leaves of no
    layer here do not move.

    Attributes:
        basis: the directions, by layer, float32, orthonormal columns ``[G, D, D]``.
        share: of each direction that is let through, float32 in [0, 1], ``[G, D]``.
        free: by layer, bool, ``[G, O / G]``: outputs that nothing need protect, whose
            columns move as they like. Layers without any may be left out.
    """

    basis: dict[str, Array]
    share: dict[str, Array]
    free: dict[str, Array] = {}


def null_space(spectrum: Spectrum, kept: dict[str, Array]) -> Projector:
    """Let through all directions but those that :func:`keep` marks: ``I - M M^T``."""
    share = {path: jnp.where(mask, 0.0, 1.0) for path, mask in kept.items()}
    return Projector(spectrum.basis, share)


def soft_null_space(spectrum: Spectrum, softness: Any) -> Projector:
    r"""Let through the less of a direction the more it is used.

    The share is :math:`\mu / (\lambda + \mu)`. The limits are no projection at all
    (large ``softness``) and the null space of the data (small). With :math:`\mu` this
    is the step of steepest descent under a bound on the drift, ``tr(dW^T G dW)``.

    Args:
        spectrum: as by :func:`decompose`.
        softness: :math:`\mu` in units of each layer's mean eigenvalue, positive.
    """

    def filtered(values: Array) -> Array:
        mu = softness * jnp.mean(values)
        return jnp.where(mu > 0, mu / jnp.where(mu > 0, values + mu, 1), 1)

    return Projector(spectrum.basis, jax.tree.map(filtered, spectrum.values))


def project_gradients(projector: Projector) -> optax.GradientTransformation:
    """Project, as a link of an optax chain. It belongs at the chain's END.

    What follows it must keep the subspace. Multiples do (schedules, momentum, clipping
    by a global norm); what scales or adds element by element does not (Adam, Adafactor,
    weight decay, clipping by value): put that before. Projecting before Adam as well
    keeps its second moments from being those of directions that are thrown away.

    Leaves of no layer in the projector are zeroed, and so is a bias where the Gram
    matrices have no constant.
    """
    # Once, not at every step.
    matrices = _matrices(projector)

    def project(path: str, matrix: Array) -> Array:
        projected = jnp.matmul(matrices[path], matrix, precision=_EXACT)
        return _with_free(projector, path, matrix, projected)

    return optax.stateless(lambda updates, _: map_layers(updates, matrices, project))


def scale_by_gram(projector: Projector, grams: Grams) -> optax.GradientTransformation:
    """Scale steps to units of layer outputs: normalised least mean squares.

    Each layer's change is divided by the mean of ``r^T P r`` over the examples of
    ``grams``, with ``P`` the projector: what an example's output moves by if the change
    is its own projected gradient. So a learning rate means the same whatever the scale
    of a layer's inputs and however little of them ``P`` leaves (down to 1e-4 of the
    inputs' own mean square norm). Free columns have ``P = I``.

    Args:
        projector: where parameters may move.
        grams: of the examples that steps are taken on, as by :func:`measure`.

    References:
        Nagumo and Noda, A learning method for system identification, IEEE Transactions
        on Automatic Control 12, 1967.
    """
    n = jnp.where(grams.total_weight > 0, grams.total_weight, 1)
    matrices = _matrices(projector)

    def inverse(power: Array) -> Array:
        return jnp.where(power > 0, 1 / jnp.where(power > 0, power, 1), 0)

    protected, free = {}, {}
    for path, matrix in matrices.items():
        # Where biases are frozen the projector has no row for the constant.
        gram = grams.values[path][:, : matrix.shape[1], : matrix.shape[1]]
        whole = jnp.sum(jnp.trace(gram, axis1=-2, axis2=-1)) / n
        left = jnp.sum(matrix * gram) / n
        protected[path] = inverse(jnp.maximum(left, _LEAST_SHARE * whole))
        free[path] = inverse(whole)

    def scale(path: str, matrix: Array) -> Array:
        return _with_free(
            projector, path, matrix * free[path], matrix * protected[path]
        )

    return optax.stateless(lambda updates, _: map_layers(updates, matrices, scale))


def to_coordinates(projector: Projector, params: Any) -> dict[str, Array]:
    """Make zeros to train in place of parameters, by layer ``[G, D, O / G]``."""
    return {
        path: jnp.zeros_like(layer_matrix(trees.get(params, path), basis))
        for path, basis in projector.basis.items()
    }


def from_coordinates(
    projector: Projector, start: Any, coordinates: dict[str, Array]
) -> Any:
    """Compute parameters ``W0 + V B``, where ``V`` is the basis scaled by its shares.

    Whatever an optimiser makes of ``B`` (moments, weight decay, clipping by value), the
    parameters stay in the subspace: by construction, and not by the order of a chain.
    Weight decay pulls towards the start.

    Args:
        projector: scales and basis.
        start: parameters ``W0``.
        coordinates: ``B``, like :func:`to_coordinates` gives.
    """

    def change(path: str, matrix: Array) -> Array:
        del matrix  # The start is added below, to leaves of no layer too.
        scaled = projector.share[path][..., None] * coordinates[path]
        moved = jnp.matmul(projector.basis[path], scaled, precision=_EXACT)
        return _with_free(projector, path, coordinates[path], moved)

    return optax.apply_updates(start, map_layers(start, projector.basis, change))


def without_free(projector: Projector, changes: Any, grams: Grams) -> Any:
    """Set a change's free columns to zero: what a drift should count.

    Args:
        projector: where parameters may move.
        changes: like the parameters. Leaves of no layer become zero.
        grams: those that the drift is taken by: biases count where they have a row for
            them, whether they may move or not.
    """

    def protected(path: str, matrix: Array) -> Array:
        return _with_free(projector, path, jnp.zeros_like(matrix), matrix)

    return map_layers(changes, grams.values, protected)


def _matrices(projector: Projector) -> dict[str, Array]:
    return {
        path: jnp.matmul(
            basis * projector.share[path][..., None, :],
            jnp.swapaxes(basis, -1, -2),
            precision=_EXACT,
        )
        for path, basis in projector.basis.items()
    }


def _with_free(projector: Projector, path: str, free: Array, protected: Array) -> Array:
    """One matrix's free columns and another's protected ones."""
    if path not in projector.free:
        return protected
    return jnp.where(projector.free[path][:, None, :], free, protected)


def drift(grams: Grams, changes: Any) -> dict[str, Array]:
    r"""Compute the mean squared change of every layer's outputs, inputs held fixed.

    .. math:: \frac{1}{n} \sum_i \lVert \Delta W^T r_i \rVert^2
              = \mathrm{tr}(\Delta W^T G \, \Delta W) / n

    exactly, with no data at hand: a certificate of what a change did to the examples
    that the Gram matrices are of. Places of one example are summed. It is of single
    layers: what reaches a layer from those before it is not in it.

    Args:
        grams: of the examples in question, as by :func:`measure`.
        changes: like the parameters: their difference.

    Returns:
        By layer, float32, ``[]``, in squared units of the layer's outputs.
    """
    n = jnp.where(grams.total_weight > 0, grams.total_weight, 1)
    found = {}
    for path, gram in grams.values.items():
        matrix = layer_matrix(trees.get(changes, path), gram).astype(jnp.float32)
        moved = jnp.matmul(gram, matrix, precision=lax.Precision.HIGHEST)
        # Not negative but for rounding.
        found[path] = jnp.maximum(jnp.sum(matrix * moved), 0) / n
    return found


def relative_drift(grams: Grams, params: Any, changes: Any) -> dict[str, Array]:
    """Compute the drift's root as a share of the root of the outputs' mean square.

    Args:
        grams: as for :func:`drift`.
        params: the parameters before.
        changes: like them.

    Returns:
        By layer, float32, ``[]``; the drift's own root for a layer whose outputs were
        all zero.
    """
    moved, size = drift(grams, changes), drift(grams, params)
    return {
        path: jnp.sqrt(moved[path] / jnp.where(size[path] > 0, size[path], 1))
        for path in moved
    }
