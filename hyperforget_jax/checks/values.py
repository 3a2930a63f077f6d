"""Checks of single values: numbers, sizes, kinds, keys, and where arrays live."""

import numbers
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

__all__ = [
    "check_arrays",
    "check_axes",
    "check_factor",
    "check_is",
    "check_is_function",
    "check_key",
    "check_one_of",
    "check_positive",
    "check_seed",
    "check_sizes",
    "is_concrete",
]

_MOST = np.iinfo(np.int32).max


def is_concrete(*trees) -> bool:
    """Tell whether all leaves have values now, rather than under a trace."""
    leaves = jax.tree.leaves(trees)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def _on_host(value: Any) -> Any:
    """Return a value, an array as NumPy's: comparing JAX's under a trace is traced."""
    return np.asarray(value) if isinstance(value, jax.Array) else value


def check_positive(**values) -> None:
    """Raise unless every named value is a positive number; tracers pass."""
    for name, value in values.items():
        if isinstance(value, str):
            raise TypeError(f"{name} must be a number, got {name}={value!r}.")
        if is_concrete(value) and not _on_host(value) > 0:
            raise ValueError(f"{name} must be positive, got {name}={value}.")


def check_sizes(**values) -> None:
    """Raise unless every named value is an int from 1 up, within int32, not traced."""
    for name, value in values.items():
        if not is_concrete(value):
            raise TypeError(
                f"{name} must be a whole number that is known before tracing, since "
                f"shapes and loops depend on it; got a tracer: close over {name}, or "
                "name it in static_argnames."
            )
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise TypeError(
                f"{name} must be a whole number, an int; got {name}={value!r} "
                f"({type(value).__name__})."
            )
        if value < 1:
            raise ValueError(
                f"{name} must be positive, got {name}={value}: sizes are whole "
                "numbers from 1 up."
            )
        if int(value) > _MOST:
            raise ValueError(
                f"{name} must be at most {_MOST}, the largest int32, got "
                f"{name}={value}."
            )


def check_seed(seed) -> None:
    """Raise unless a seed is an int from 0 up, within int32."""
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
        raise TypeError(f"seed must be an int, got {seed!r} ({type(seed).__name__}).")
    if not 0 <= int(seed) <= _MOST:
        raise ValueError(f"seed must be in 0 to {_MOST}, got {seed}.")


def check_factor(**values) -> None:
    """Raise unless every named value is a finite number from 0 up; tracers pass."""
    for name, value in values.items():
        if not is_concrete(value):
            continue
        if isinstance(value, np.ndarray | jax.Array) and not value.shape:
            kinds = jnp.floating, jnp.integer
            is_number = any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
        else:
            is_number = isinstance(value, numbers.Real)
        if not is_number:
            raise TypeError(f"{name} must be a number, got {value!r}.")
        if not 0 <= _on_host(value) < np.inf:
            raise ValueError(
                f"{name} must be finite and not negative, got {name}={value}."
            )


def check_one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ValueError unless a value is one of those that are allowed."""
    if value not in (allowed := tuple(allowed)):
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}.")


def check_is(kind: type | tuple[type, ...], what: str, **values) -> None:
    """Raise TypeError unless every named value is of the kind, called ``what``."""
    for name, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be {what}; got {type(value).__name__}.")


def check_is_function(what: str = "a function", **values) -> None:
    """Raise TypeError unless every named value can be called, as ``what`` says."""
    for name, value in values.items():
        if not callable(value):
            raise TypeError(f"{name} must be {what}; got {type(value).__name__}.")


def check_arrays(**trees) -> None:
    """Raise TypeError unless every leaf of the named trees is, or becomes, an array."""
    for name, tree in trees.items():
        for path, leaf in jax.tree.leaves_with_path(tree):
            if isinstance(leaf, jax.Array):
                continue
            try:
                if isinstance(leaf, jax.ShapeDtypeStruct):
                    raise TypeError("a shape alone")
                jax.eval_shape(jnp.asarray, leaf)
            except Exception as error:
                raise TypeError(
                    f"{name} must be arrays, in any nesting; got "
                    f"{type(leaf).__name__} at {name}{jax.tree_util.keystr(path)}."
                ) from error


def check_key(
    key: Any, name: str = "key", *, shape: tuple[int, ...] | None = ()
) -> None:
    """Raise unless ``key`` is a typed key of a shape; None for any shape."""
    if not isinstance(key, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        raise TypeError(
            f"{name} must be a typed key, as jax.random.key(0) gives; got "
            f"{type(key).__name__}."
        )
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"{name} must be a typed key, as jax.random.key(0) gives; got an array of "
            f"{key.dtype}, shape {key.shape}. A legacy key, of jax.random.PRNGKey, "
            f"becomes a typed one by jax.random.wrap_key_data({name})."
        )
    if shape is not None and key.shape != shape:
        wanted = "one typed key" if shape == () else f"typed keys of shape {shape}"
        raise ValueError(
            f"{name} must be {wanted}, got shape {key.shape}: take one of them, or "
            "jax.vmap over them."
        )


def check_axes(**trees) -> None:
    """Raise ValueError if any array lives on a mesh with explicit axes.

    That is what ``jax.make_mesh`` makes by default. The sharding of such arrays is part
    of their type, and what the package computes with them would have to name it at
    every step.
    """
    for name, tree in trees.items():
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.Array):
                mesh: Any = jax.typeof(leaf).sharding.mesh
                if AxisType.Explicit in mesh.axis_types:
                    raise ValueError(
                        f"{name} has arrays on a mesh with explicit axes "
                        f"{mesh.axis_names}, as jax.make_mesh makes it by default: use "
                        "hf.sharding.make_mesh and hf.sharding.shard_examples, or "
                        "jax.make_mesh(..., axis_types=(AxisType.Auto, ...)) with an "
                        "entry for each axis."
                    )
