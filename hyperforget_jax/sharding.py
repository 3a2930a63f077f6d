"""The one place that knows devices: two logical axes on a mesh.

``"population"`` holds independent models and ``"examples"`` rows of data. Everything
else of the package is written for one device; sharded arrays go in, and under
``AxisType.Auto`` the compiler splits the work.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Examples

__all__ = [
    "check_mesh",
    "gather",
    "is_writer",
    "make_mesh",
    "replicate",
    "shard",
    "shard_examples",
]

Axis = Literal["population", "examples"]


def make_mesh(
    *,
    population: int | None = None,
    examples: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Make a mesh with the axes ``"population"`` and ``"examples"``.

    Models of a population never talk to each other, so that axis costs nothing and
    takes all devices by default.

    Args:
        population: devices along ``"population"``; by default as many as there are
            for every one along ``"examples"``.
        examples: devices along ``"examples"``.
        devices: which devices; by default all. The first
            ``population * examples`` are used.

    Raises:
        TypeError, ValueError: a size that is no whole number, or too few devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    checks.check_sizes(examples=examples)
    if population is None:
        population = max(len(devices) // examples, 1)
    checks.check_sizes(population=population)
    needed = population * examples
    if needed > len(devices):
        raise ValueError(
            f"A mesh of population={population} times examples={examples} needs "
            f"{needed} devices, and there are {len(devices)}."
        )
    return jax.make_mesh(
        (population, examples),
        ("population", "examples"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices[:needed],
    )


def check_mesh(mesh: Mesh, axis: Axis | None = None) -> None:
    """Raise unless ``mesh`` is one that the package can work on, with the axis."""
    checks.check_is(Mesh, "a mesh, as hf.sharding.make_mesh gives", mesh=mesh)
    if AxisType.Explicit in mesh.axis_types:
        raise ValueError(
            f"mesh has explicit axes {mesh.axis_names}, as jax.make_mesh makes them by "
            "default: use hf.sharding.make_mesh."
        )
    if axis is not None and axis not in mesh.shape:
        raise ValueError(
            f"The mesh has the axes {mesh.axis_names}, not {axis!r}: use "
            "hf.sharding.make_mesh."
        )


def shard(tree: Any, mesh: Mesh, axis: Axis) -> Any:
    """Split the first axis of every leaf over a mesh axis; scalars are replicated.

    Args:
        tree: arrays, ``[M, ...]`` each.
        mesh: as made by :func:`make_mesh`.
        axis: ``"population"`` or ``"examples"``.

    Raises:
        TypeError, ValueError: no such mesh, or a leaf whose first axis does not divide
            by its size.
    """
    size = _axis_size(mesh, axis)
    for path, leaf in trees.by_path(tree).items():
        if jnp.ndim(leaf) and jnp.shape(leaf)[0] % size:
            raise ValueError(
                f"The leaf {path!r} has {jnp.shape(leaf)[0]} rows, which do not divide "
                f"by the {size} devices of the mesh axis {axis!r}."
            )
    split = NamedSharding(mesh, PartitionSpec(axis))
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda leaf: _put(leaf, split if jnp.ndim(leaf) else whole), tree
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a copy of every leaf on every device of the mesh.

    Args:
        tree: arrays of any shape.
        mesh: as made by :func:`make_mesh`.
    """
    check_mesh(mesh)
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: _put(leaf, whole), tree)


def shard_examples(data: Examples, mesh: Mesh) -> Examples:
    """Split rows over ``"examples"``, after padding to a multiple of its size.

    Padding has weight zero and id -1, so it is as good as absent.

    Args:
        data: the examples, ``[N, ...]``.
        mesh: as made by :func:`make_mesh`.
    """
    num_rows, size = data.y.shape[0], _axis_size(mesh, "examples")
    padded = math.ceil(num_rows / size) * size
    if padded != num_rows:
        data = data.take(jnp.arange(padded))
    return shard(data, mesh, "examples")


def gather(tree: Any) -> Any:
    """Bring together what devices of several processes hold.

    All processes call it together. Leaves that only the devices of this one hold are
    left as they are, and so is everything where there is but one process.

    Args:
        tree: arrays of any shape.

    Returns:
        The tree; what other processes hold a part of, as whole NumPy arrays.
    """

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)


def is_writer(mesh: Mesh | None) -> bool:
    """Tell whether this process is the one, of those of a mesh, that writes files.

    Args:
        mesh: as made by :func:`make_mesh`; None where each process is on its own.
    """
    if mesh is None:
        return True
    first = min(device.process_index for device in mesh.devices.flat)
    return jax.process_index() == first


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    # Under jit, device_put does not split what lives on one device: it must be asked.
    if isinstance(leaf, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(leaf, sharding)
    if sharding.is_fully_addressable or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, sharding)
    # For other processes too, all of which give the same: device_put compares, but
    # knows neither keys nor what was bound to a device.
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        bits = jax.device_put(np.asarray(jax.random.key_data(leaf)), sharding)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf), sharding)


def _axis_size(mesh: Mesh, axis: Axis) -> int:
    check_mesh(mesh, axis)
    return mesh.shape[axis]
