"""DAMP: take a class's own direction out of what every layer can see."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.change import change
from hyperforget_jax.methods.stateless import ModelInfo
from hyperforget_jax.models import warn_of_untapped
from hyperforget_jax.rivals.prototypes import Prototypes, prototypes, separability
from hyperforget_jax.subspace.grams import map_layers

__all__ = ["DampState", "damp", "forget_directions"]

_EXACT = lax.Precision.HIGHEST
# What is left of a prototype below this share of its length is rounding.
_LEAST_SHARE = 1e-3


class DampState(NamedTuple):
    """A model, and the mean inputs of each class.

    Attributes:
        variables: the current model's variables.
        prototypes: of the classes that were not forgotten.
    """

    variables: Variables
    prototypes: Prototypes


def damp(classifier: Classifier, *, batch_size: int = 256) -> Unlearner:
    r"""Project forgotten classes' directions out of the inputs of every layer.

    With prototypes, the mean input of each class (of a convolution the mean patch), the
    forget directions ``d`` of a layer are what prototypes of forgotten classes have
    outside the span of the retained ones, made orthonormal. In closed form, in every
    layer at once,

    .. math:: W \leftarrow (I - s_\ell \sum_d d d^\top) W

    for a kernel ``W`` with its inputs as rows. Biases and normalisation stay. ``s`` is
    the layer's separability, the share of its inputs' variance that lies between the
    classes, as a share of the largest of all layers: small edits early, whole ones
    where classes are told apart best. The authors' rule, from the separability of
    probes, was not at hand; this one shares its aim, and has no parameter either.

    ``init`` reads the training data once, and a request nothing but which classes go:
    single rows have no direction, and a request for them changes nothing. Prototypes
    of forgotten classes are erased; those of the others stay the first model's. Where
    there are at least as many retained classes as inputs there is nothing to remove.

    Args:
        classifier: the model, with ``tapped``.
        batch_size: rows at once.

    References:
        Hatami, Aalishah and Monosov, Class unlearning via depth-aware removal of
        forget-specific directions, arXiv 2604.15166, 2026.
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(batch_size=batch_size)

    def init(key: Array, variables: Variables, data: Examples) -> DampState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        found = prototypes(classifier, variables, data, num_classes, batch_size)
        warn_of_untapped(classifier, variables, data.x, "hf.rivals.damp")
        return DampState(variables, found)

    def unlearn(key: Array, state: DampState, request: ForgetRequest):
        checks.check_key(key)  # Nothing here is random.
        checks.check_is(DampState, "what init gave", state=state)
        checks.check_is_request(request)
        variables, known = state
        num_classes = known.count.shape[0]
        if request.classes.shape != (num_classes,):
            raise ValueError(
                f"The classifier has {num_classes} logits, but the request is made for "
                f"{request.classes.shape[0]} classes: they must match."
            )
        params = variables["params"]
        strength = separability(known)
        count = jnp.where(known.count > 0, known.count, 1)

        def edit(path: str, matrix: Array) -> Array:
            means = known.sums[path] / count[:, None, None]
            d = jax.vmap(forget_directions, (1, None))(means, request.classes)
            along = jnp.matmul(d, matrix, precision=_EXACT)
            back = jnp.matmul(jnp.swapaxes(d, -1, -2), along, precision=_EXACT)
            return -strength[path] * back

        # Of inputs alone: biases have no row, and get no change.
        inputs = {path: total[0] for path, total in known.sums.items()}
        step = map_layers(params, inputs, edit)
        after = {**variables, "params": optax.apply_updates(params, step)}
        left = known.without(request.classes)
        info = ModelInfo(jnp.zeros((), jnp.int32), change(classifier, variables, after))
        return DampState(after, left), info

    access = Access(
        init={"retain", "forget"},
        unlearn={"classes"},
        remains="prototypes of the classes that are left; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)


def forget_directions(means: Array, gone: Array) -> Array:
    """Return what forgotten prototypes have outside the span of the others.

    Args:
        means: prototypes, ``[C, D]``; zeros for classes without one.
        gone: which are to be forgotten, bool, ``[C]``.

    Returns:
        Orthonormal rows, and zeros for classes that have nothing of their own or stay,
        float32, ``[C, D]``.
    """
    # Gram and Schmidt, retained ones first; twice, for orthogonality to rounding.
    order = jnp.argsort(gone, stable=True)

    def add(basis: Array, row: Array):
        left = means[row]
        for _ in range(2):
            left -= jnp.matmul(
                jnp.matmul(basis, left, precision=_EXACT), basis, precision=_EXACT
            )
        size, whole = jnp.linalg.norm(left), jnp.linalg.norm(means[row])
        is_new = size > _LEAST_SHARE * whole
        unit = jnp.where(is_new, left / jnp.where(is_new, size, 1), 0)
        return basis.at[row].set(unit), None

    basis, _ = lax.scan(add, jnp.zeros_like(means), order)
    return jnp.where(gone[:, None], basis, 0)
