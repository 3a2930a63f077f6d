"""Gram matrices: the second moments of what every layer is given."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array, Classifier, Examples, Tap, TapsFn, Variables
from hyperforget_jax.microbatch import batch_rows, compensated_sum
from hyperforget_jax.models.layer_inputs import rows_of
from hyperforget_jax.sharding import check_mesh, replicate, shard_examples
from hyperforget_jax.subspace.displacement import displacement_gram, with_constant

__all__ = ["Grams", "add", "measure", "subtract", "without_bias"]

_EXACT = lax.Precision.HIGHEST
# The size of the Gram matrix from which its displacement form is used. On two busy CPU
# cores it took, of the time that patches take: 3 x 3 windows 0.7 to 1.2 with 16 or 32
# channels and 0.6 to 0.8 with 64 to 256; 5 x 5 windows 0.4 to 0.8 with 16 to 128. It
# took up to 1.8 of it where windows are one or two columns wide, and 1.5 where they are
# wider than the places are many.
_DISPLACED = 512


class Grams(NamedTuple):
    """Sums of outer products of what the kernels saw, neither centred nor divided.

    Attributes:
        values: by the layer's path, float32, ``[G, D, D]``: symmetric, one matrix a
            feature group, in the order of the kernel's rows. If the layer has a bias,
            the last row and column are those of a constant one.
        mass: the sum of the weights over all passes, float32, ``[]``.
    """

    values: dict[str, Array]
    mass: Array


def measure(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    *,
    augment: Callable[[Array, Array, Array], Array] | None = None,
    passes: int = 1,
    batch_size: int = 256,
    mesh: Mesh | None = None,
) -> Grams:
    r"""Gram matrices of what every layer is given, in evaluation mode.

    .. math:: G_\ell = \sum_i w_i \sum_{p} r_{ip} r_{ip}^\top

    over the examples ``i`` and the places ``p`` of all calls of the layer, where
    ``r`` is what the kernel saw there, with a one at its end if the layer has a bias.
    Sums over disjoint examples add up, and what was added can be subtracted.

    Args:
        classifier: the model, with taps. An example's inputs must not depend on the
            other rows.
        variables: its variables.
        data: examples, ``[N]``; their weights are ``w``. Of rows of weight zero
            nothing is in the sums, whatever their values.
        augment: ``(x, id, pass_) -> x``, such as :func:`hf.data.crop_and_flip` makes:
            what is added in a pass does not depend on the other rows either.
        passes: how often the data are gone through, augmented in another way each
            time; all passes are added.
        batch_size: rows at once, on each device; it bounds the memory, which holds
            patches of as many images.
        mesh: as made by :func:`make_mesh`: rows are split over its axis
            ``"examples"``, and the devices' sums added once, at the end. None for
            wherever the arrays are.

    Returns:
        The Gram matrices of every layer that is tapped: where the classifier is
        ``tapped``, of those whose parameters act through these calls alone.

    Raises:
        ValueError: a classifier without taps, ``passes`` or ``batch_size`` that are
            not positive, several passes without ``augment``, or a mesh without the
            axis.
    """
    checks.check_sizes(passes=passes, batch_size=batch_size)
    if mesh is not None:
        check_mesh(mesh, "examples")
    if augment is None and passes != 1:
        raise ValueError(
            f"passes={passes} without augment: every pass would add the same again."
        )
    taps_of = _taps_of(classifier)

    def measure_batch(variables: Variables, batch: Examples, pass_: Array) -> Grams:
        x = batch.x if augment is None else augment(batch.x, batch.id, pass_)
        weight = batch.weight.astype(jnp.float32)
        # One row at a time: whatever axes a layer has, all are of this one example.
        taps = jax.vmap(lambda row: taps_of(variables, row[None]))(x)
        if not taps:
            raise _untapped(classifier)
        values = {}
        for path, calls in taps.items():
            layer = trees.get(variables["params"], path)
            first, *more = (_of_call(tap, layer, weight) for tap in calls)
            values[path] = sum(more, start=first)
        return Grams(values, jnp.sum(weight))

    def measure_all(variables: Variables, data: Examples) -> Grams:
        rows = batch_rows(data.y.shape[0], batch_size)
        passes_ = jnp.repeat(jnp.arange(passes), rows.shape[0])

        def of_batch(step):
            pass_, rows = step
            return measure_batch(variables, data.take(rows), pass_)

        return compensated_sum(of_batch, (passes_, jnp.tile(rows, (passes, 1))))

    if mesh is None:
        grams = measure_all(variables, data)
    else:
        measure_shards = jax.shard_map(
            lambda *own: lax.psum(measure_all(*own), "examples"),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("examples")),
            out_specs=PartitionSpec(),
            # The check refuses loops that start from constants, as a model's may.
            check_vma=False,
        )
        grams = measure_shards(replicate(variables, mesh), shard_examples(data, mesh))
    return grams._replace(values=jax.tree.map(_symmetric, grams.values))


def add(first: Grams, second: Grams) -> Grams:
    """Gram matrices of two sets of examples together.

    Args:
        first: of some examples.
        second: of others, under the same variables.

    Raises:
        ValueError: they have not the same layers, or not of the same shapes.
    """
    _check_alike(first, second)
    return jax.tree.map(jnp.add, first, second)


def subtract(whole: Grams, part: Grams) -> Grams:
    """Gram matrices of the examples that are left.

    Args:
        whole: of all examples.
        part: of some of them, under the same variables and augmentation.

    Raises:
        ValueError: they have not the same layers, or not of the same shapes.
    """
    _check_alike(whole, part)
    return jax.tree.map(jnp.subtract, whole, part)


def without_bias(grams: Grams, params: Any) -> Grams:
    """The Gram matrices without the constant's row and column, for frozen biases.

    Args:
        grams: as measured.
        params: the model's parameters, of which shapes are used alone.
    """

    def cut(path: str, gram: Array) -> Array:
        layer = trees.get(params, path)
        if "bias" not in layer:
            return gram
        rows = layer["kernel"].size // layer["bias"].size
        return gram[..., :rows, :rows]

    values = {path: cut(path, gram) for path, gram in grams.values.items()}
    return grams._replace(values=values)


def _taps_of(classifier: Classifier) -> TapsFn:
    tapped = classifier.tapped
    if tapped is not None:
        return lambda variables, x: tapped(variables, x, {})[1]
    if classifier.taps is not None:
        return classifier.taps
    raise _untapped(classifier)


def _untapped(classifier: Classifier) -> ValueError:
    return ValueError(
        "Gram matrices need taps, and the classifier "
        f"({classifier.description or 'no description'}) has none, so that hf.pgu "
        "could not move anything: build it with hf.from_linen or hf.from_nnx, or "
        "let the function compute its layers with hf.models.dense."
    )


def _of_call(tap: Tap, layer: Mapping[str, Array], weight: Array) -> Array:
    """The Gram matrices of one call, ``[G, D, D]``; ``weight`` is ``[N]``."""
    shape, bias = layer["kernel"].shape, "bias" in layer
    # Chosen, not multiplied by zero: zero times NaN is NaN.
    there = (weight > 0).reshape(-1, *[1] * (tap.input.ndim - 1))
    tap = dataclasses.replace(tap, input=jnp.where(there, tap.input, 0))
    if _is_displaced(tap, shape):
        x = tap.input.reshape(-1, *tap.input.shape[-3:])
        repeated = jnp.repeat(weight, x.shape[0] // weight.shape[0])
        given = (x, repeated, shape[:2], tap.padding)
        gram = displacement_gram(*given)
        return (with_constant(gram, *given) if bias else gram)[None]
    rows = rows_of(tap, shape, bias)
    weighted = weight[None, :, None, None] * rows
    return jnp.einsum("gnpd,gnpe->gde", weighted, rows, precision=_EXACT)


def _is_displaced(tap: Tap, kernel_shape: tuple[int, ...]) -> bool:
    """Whether the displacement form applies, and is the faster one."""
    if tap.kind != "conv" or tap.groups != 1:
        return False
    if not tap.strides == tap.dilation == (1, 1):
        return False
    height, width, channels, _ = kernel_shape
    places = tap.input.shape[-2] + sum(tap.padding[1]) - width + 1
    return 3 <= width <= places and height * width * channels >= _DISPLACED


def _symmetric(gram: Array) -> Array:
    return (gram + jnp.swapaxes(gram, -1, -2)) / 2


def _check_alike(first: Grams, second: Grams) -> None:
    for path in sorted(first.values.keys() ^ second.values.keys()):
        raise ValueError(f"Layer {path!r} is in one of the Gram matrices only.")
    for path, gram in first.values.items():
        if gram.shape != second.values[path].shape:
            raise ValueError(
                f"The Gram matrices of layer {path!r} have the shapes {gram.shape} "
                f"and {second.values[path].shape}."
            )
