"""DAMP: take a class's own direction out of what every layer can see."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks, trees
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
from hyperforget_jax.microbatch import sum_over
from hyperforget_jax.models import warn_of_untapped
from hyperforget_jax.models.taps import rows_of
from hyperforget_jax.subspace.grams import map_layers

__all__ = [
    "DampState",
    "Prototypes",
    "damp",
    "forget_directions",
    "prototypes",
    "separability",
]


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
    """Compute how well layers separate classes, as a share of the best of them.

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
    where classes are separated best. The authors' rule, from the separability of
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
        variables, known = state
        checks.check_is_request(request, known.count.shape[0])
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
