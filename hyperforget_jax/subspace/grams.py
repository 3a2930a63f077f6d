"""Gram matrices, the second moments of what layers are given; layers as matrices."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array, Classifier, Examples, Tap, TappedFn, Variables
from hyperforget_jax.microbatch import batch_rows, compensated_sum
from hyperforget_jax.models.taps import rows_of
from hyperforget_jax.sharding import check_mesh, replicate, shard_examples

__all__ = [
    "Grams",
    "layer_matrix",
    "map_layers",
    "measure",
    "subtract",
    "with_layer",
    "without_bias",
]


def layer_matrix(layer: Mapping[str, Array], gram: Array) -> Array:
    """Return the matrix that a layer's inputs are multiplied by, ``[G, D, O / G]``.

    Args:
        layer: ``kernel``, ``[*window, C / G, O]`` or ``[*inputs, *outputs]``; and
            ``bias``, if it has one.
        gram: anything ``[G, D, ...]`` as the layer's Gram matrices are: if it has one
            row more than the kernel, the bias is the last row.
    """
    groups, width = gram.shape[:2]
    kernel = layer["kernel"]
    rows = kernel.size // layer["bias"].size if "bias" in layer else width
    matrix = jnp.swapaxes(kernel.reshape(rows, groups, -1), 0, 1)
    if rows == width:
        return matrix
    return jnp.concatenate([matrix, layer["bias"].reshape(groups, 1, -1)], axis=1)


def with_layer(layer: Mapping[str, Array], matrix: Array) -> dict[str, Array]:
    """Return the layer of a matrix, ``[G, D, O / G]``; a bias not in it is zero."""
    kernel = layer["kernel"]
    rows = kernel.size // (matrix.shape[0] * matrix.shape[2])
    ungrouped = jnp.swapaxes(matrix[:, :rows], 0, 1).reshape(kernel.shape)
    new = {"kernel": ungrouped.astype(kernel.dtype)}
    if "bias" in layer:
        bias = layer["bias"]
        last = matrix[:, rows] if matrix.shape[1] > rows else jnp.zeros(bias.shape)
        new["bias"] = last.reshape(bias.shape).astype(bias.dtype)
    return new


def map_layers(
    params: Any,
    grams: Mapping[str, Array],
    change: Callable[[str, Array], Array],
) -> Any:
    """Change the matrices of some layers, and set every other leaf to zero.

    Args:
        params: the parameters, or anything like them.
        grams: ``[G, D, ...]`` by layer, as for :func:`layer_matrix`.
        change: ``(path, matrix) -> matrix``, float32, ``[G, D, O / G]``.
    """
    changed = jax.tree.map(jnp.zeros_like, params)
    for path, gram in grams.items():
        layer = trees.get(params, path)
        matrix = layer_matrix(layer, gram).astype(jnp.float32)
        # A layer's other parameters, if it has any, stay out of it.
        new = {**trees.get(changed, path), **with_layer(layer, change(path, matrix))}
        changed = trees.replace(changed, path, new)
    return changed


class Grams(NamedTuple):
    """Sums of outer products of what the kernels saw, neither centred nor divided.

    Attributes:
        values: by the layer's path, float32, ``[G, D, D]``: symmetric, one matrix a
            feature group, in the order of the kernel's rows. If the layer has a bias,
            the last row and column are those of a constant one.
        total_weight: the sum of the weights over all epochs, float32, ``[]``.
    """

    values: dict[str, Array]
    total_weight: Array


def measure(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    *,
    augment: Callable[[Array, Array, Array], Array] | None = None,
    epochs: int = 1,
    batch_size: int = 256,
    skip: bool = False,
    mesh: Mesh | None = None,
) -> Grams:
    r"""Sum the Gram matrices of what every layer is given, in evaluation mode.

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
        augment: ``(x, id, epoch) -> x``, such as :func:`hf.data.crop_and_flip` makes:
            what it does to a row does not depend on the other rows either.
        epochs: how often the data are gone through, augmented in another way each
            time; all are added.
        batch_size: rows at once, on each device; it bounds the memory, which holds
            patches of as many images.
        skip: whether minibatches that weigh nothing are left out, for data of which
            most weigh nothing. Under ``vmap`` over weights it only copies the data.
        mesh: as made by :func:`make_mesh`: rows are split over its axis
            ``"examples"``, and the devices' sums added once, at the end. None for
            wherever the arrays are.

    Returns:
        The Gram matrices of every layer that is tapped: where the classifier is
        ``tapped``, of those whose parameters act through these calls alone.

    Raises:
        ValueError: a classifier without taps, ``epochs`` or ``batch_size`` that are
            not positive, several epochs without ``augment``, or a mesh without the
            axis.
    """
    checks.check_sizes(epochs=epochs, batch_size=batch_size)
    if mesh is not None:
        check_mesh(mesh, "examples")
    if augment is None and epochs != 1:
        raise ValueError(
            f"epochs={epochs} without augment: every epoch would add the same again."
        )
    # Traced here once, and not wherever it is called.
    tapped = jax.jit(_tapped(classifier), inline=True)
    row = jax.ShapeDtypeStruct((1, *data.x.shape[1:]), data.x.dtype)
    if not jax.eval_shape(tapped, variables, row, {})[1]:
        raise _untapped(classifier)
    # One row at a time: whatever axes a layer has, all are of this one example.
    tap_rows = jax.vmap(tapped, (None, 0, None))

    def measure_all(variables: Variables, data: Examples) -> Grams:
        def of_batch(step):
            epoch, rows = step
            batch = data.take(rows)
            x = batch.x if augment is None else augment(batch.x, batch.id, epoch)
            weight = batch.weight.astype(jnp.float32)
            _, taps = tap_rows(variables, x[:, None], {})
            values = {}
            for path, calls in taps.items():
                layer = trees.get(variables["params"], path)
                first, *more = (_of_call(tap, layer, weight) for tap in calls)
                values[path] = sum(more, start=first)
            return Grams(values, jnp.sum(weight))

        def counts(step):
            return jnp.any(data.take(step[1]).weight > 0)

        rows = batch_rows(data.y.shape[0], batch_size)
        number = jnp.repeat(jnp.arange(epochs), rows.shape[0])
        steps = number, jnp.tile(rows, (epochs, 1))
        return compensated_sum(of_batch, steps, counts if skip else None)

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


def subtract(whole: Grams, part: Grams) -> Grams:
    """Subtract those of some examples, under the same variables and augmentation.

    Raises:
        ValueError: they have not the same layers, or not of the same shapes.
    """
    _check_alike(whole, part)
    return jax.tree.map(jnp.subtract, whole, part)


def without_bias(grams: Grams, params: Any) -> Grams:
    """Cut off the constant's row and column, for biases that are frozen.

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


def _tapped(classifier: Classifier) -> TappedFn:
    if classifier.tapped is not None:
        return classifier.tapped
    taps = classifier.taps
    if taps is None:
        raise _untapped(classifier)
    return lambda variables, x, shifts: (None, taps(variables, x))  # pyrefly: ignore


def _untapped(classifier: Classifier) -> ValueError:
    return ValueError(
        "Gram matrices need taps, and the classifier "
        f"({classifier.description or 'no description'}) has none, so that hf.pgu "
        "could not move anything: build it with hf.from_linen or hf.from_nnx, or "
        "let the function compute its layers with hf.models.dense."
    )


def _of_call(tap: Tap, layer: Mapping[str, Array], weight: Array) -> Array:
    """Gram matrices of one call, ``[G, D, D]``; ``weight`` is ``[N]``."""
    # Chosen, not multiplied by zero: zero times NaN is NaN.
    there = (weight > 0).reshape(-1, *[1] * (tap.input.ndim - 1))
    tap = dataclasses.replace(tap, input=jnp.where(there, tap.input, 0))
    rows = rows_of(tap, layer["kernel"].shape, "bias" in layer)
    weighted = weight[None, :, None, None] * rows
    # One axis to sum over: over two of them the CPU's product takes twice as long.
    first, second = (
        each.reshape(each.shape[0], -1, each.shape[3]) for each in (weighted, rows)
    )
    return jnp.einsum("gmd,gme->gde", first, second, precision=lax.Precision.HIGHEST)


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
