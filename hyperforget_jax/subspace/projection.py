"""Changes of parameters that the data do not notice, to first order in every layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.grams import Grams
from hyperforget_jax.subspace.layers import layer_matrix, map_layers
from hyperforget_jax.subspace.spectrum import Spectrum

__all__ = [
    "Subspace",
    "by_room",
    "complement",
    "from_coordinates",
    "project_out",
    "protected",
    "soft_complement",
    "to_coordinates",
]

_EXACT = lax.Precision.HIGHEST
# Less room than this share of an input is rounding, and not to be blown up.
_LEAST_ROOM = 1e-4


class Subspace(NamedTuple):
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


def complement(spectrum: Spectrum, kept: dict[str, Array]) -> Subspace:
    """All directions but those kept: the projector ``I - M M^T``.

    Args:
        spectrum: as by :func:`decompose`.
        kept: as by :func:`keep`.
    """
    share = {path: jnp.where(mask, 0.0, 1.0) for path, mask in kept.items()}
    return Subspace(spectrum.basis, share)


def soft_complement(spectrum: Spectrum, softness: Any) -> Subspace:
    r"""Every direction, the less the more it is used: :math:`\mu / (\lambda + \mu)`.

    The limits are no projection at all (large ``softness``) and the complement of all
    directions in use (small). With :math:`\mu` this is the step of steepest descent
    under a bound on the drift, ``tr(dW^T G dW)``.

    Args:
        spectrum: as by :func:`decompose`.
        softness: :math:`\mu` in units of each layer's mean eigenvalue, positive.
    """

    def filtered(values: Array) -> Array:
        mu = softness * jnp.mean(values)
        return jnp.where(mu > 0, mu / jnp.where(mu > 0, values + mu, 1), 1)

    return Subspace(spectrum.basis, jax.tree.map(filtered, spectrum.values))


def protected(subspace: Subspace, changes: Any, grams: Grams) -> Any:
    """A change of parameters without its free columns: what a drift should count.

    Args:
        subspace: where parameters may move.
        changes: like the parameters. Leaves of no layer become zero.
        grams: those that the drift is taken by: biases count where they have a row for
            them, whether they may move or not.
    """
    return map_layers(
        changes,
        grams.values,
        lambda path, matrix: _with_free(
            subspace.free, path, jnp.zeros_like(matrix), matrix
        ),
    )


def project_out(subspace: Subspace) -> optax.GradientTransformation:
    """Projection as a link of an optax chain. It belongs at the chain's END.

    What follows it must keep the subspace. Multiples do (schedules, momentum, clipping
    by a global norm); what scales or adds element by element does not (Adam, Adafactor,
    weight decay, clipping by value): put that before. Projecting before Adam as well
    keeps its second moments from being those of directions that are thrown away.

    Leaves of no layer in the subspace are zeroed, and so is a bias where the Gram
    matrices have no constant.

    Args:
        subspace: as by :func:`complement` or :func:`soft_complement`.
    """
    # Once, not at every step.
    projectors = _projectors(subspace)

    def update(updates, state, params=None):
        del params
        return _apply(projectors, subspace.free, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def to_coordinates(subspace: Subspace, params: Any) -> dict[str, Array]:
    """Zeros to train in place of parameters; see :func:`from_coordinates`.

    Args:
        subspace: as by :func:`complement` or :func:`soft_complement`.
        params: the parameters, for their shapes.

    Returns:
        By layer, float32, ``[G, D, O / G]``.
    """
    return {
        path: jnp.zeros_like(layer_matrix(trees.get(params, path), basis))
        for path, basis in subspace.basis.items()
    }


def from_coordinates(
    subspace: Subspace, start: Any, coordinates: dict[str, Array]
) -> Any:
    """Parameters ``W0 + V B``, where ``V`` is the basis scaled by its shares.

    Whatever an optimiser makes of ``B`` (moments, weight decay, clipping by value), the
    parameters stay in the subspace: by construction, and not by the order of a chain.
    Weight decay pulls towards the start.

    Args:
        subspace: as by :func:`complement` or :func:`soft_complement`.
        start: parameters ``W0``.
        coordinates: ``B``, like :func:`to_coordinates` gives.
    """

    def change(path: str, matrix: Array) -> Array:
        del matrix  # The start is added below, to leaves of no layer too.
        scaled = subspace.share[path][..., None] * coordinates[path]
        moved = jnp.matmul(subspace.basis[path], scaled, precision=_EXACT)
        return _with_free(subspace.free, path, coordinates[path], moved)

    return optax.apply_updates(start, map_layers(start, subspace.basis, change))


def by_room(subspace: Subspace, grams: Grams) -> optax.GradientTransformation:
    """Steps in units of layer outputs: normalised least mean squares in a subspace.

    Each layer's change is divided by the mean of ``r^T P r`` over the examples of
    ``grams``, with ``P`` the projector: what an example's output moves by if the change
    is its own projected gradient. So a learning rate means the same whatever the scale
    of a layer's inputs and however little room they have (down to 1e-4 of the inputs'
    own mean square norm). Free columns have ``P = I``.

    Args:
        subspace: where parameters may move.
        grams: of the examples that steps are taken on, as by :func:`measure`.

    References:
        Nagumo and Noda, A learning method for system identification, IEEE Transactions
        on Automatic Control 12, 1967.
    """
    n = jnp.where(grams.mass > 0, grams.mass, 1)
    projectors = _projectors(subspace)

    def inverse(power: Array) -> Array:
        return jnp.where(power > 0, 1 / jnp.where(power > 0, power, 1), 0)

    room, free = {}, {}
    for path, projector in projectors.items():
        gram = grams.values[path]
        # Where biases are frozen the projector has no row for the constant.
        gram = gram[:, : projector.shape[1], : projector.shape[1]]
        whole = jnp.sum(jnp.trace(gram, axis1=-2, axis2=-1)) / n
        left = jnp.sum(projector * gram) / n
        room[path] = inverse(jnp.maximum(left, _LEAST_ROOM * whole))
        free[path] = inverse(whole)

    def scale(path: str, matrix: Array) -> Array:
        protected = matrix * room[path]
        return _with_free(subspace.free, path, matrix * free[path], protected)

    return optax.stateless(
        lambda updates, params: map_layers(updates, projectors, scale)
    )


def _projectors(subspace: Subspace) -> dict[str, Array]:
    return {
        path: jnp.matmul(
            basis * subspace.share[path][..., None, :],
            jnp.swapaxes(basis, -1, -2),
            precision=_EXACT,
        )
        for path, basis in subspace.basis.items()
    }


def _apply(projectors: dict[str, Array], free: dict[str, Array], changes: Any) -> Any:
    def change(path: str, matrix: Array) -> Array:
        projected = jnp.matmul(projectors[path], matrix, precision=_EXACT)
        return _with_free(free, path, matrix, projected)

    return map_layers(changes, projectors, change)


def _with_free(
    free: dict[str, Array], path: str, matrix: Array, projected: Array
) -> Array:
    if path not in free:
        return projected
    return jnp.where(free[path][:, None, :], matrix, projected)
