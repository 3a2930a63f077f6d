"""Digests of trees and of configurations, the same on every machine."""

import dataclasses
import hashlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from hyperforget_jax import trees

__all__ = [
    "LeafRecord",
    "check_dtype",
    "config_hash",
    "content_digest",
    "digest",
    "json_hash",
    "plain",
    "to_host",
]


class LeafRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One array of a checkpoint.

    Attributes:
        path: where it is in the tree, ``"variables/params/Dense_0/kernel"``.
        shape: its shape.
        dtype: its dtype's name, ``"bfloat16"`` or ``"key<fry>"``.
        key_impl: for typed keys, the name of their implementation.
    """

    path: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    dtype: str
    key_impl: str | None


def digest(tree: Any) -> str:
    """Compute SHA-256 over the leaves' paths, dtypes, shapes and bytes.

    A NamedTuple and the dict of its fields have the same digest. Leaves are arrays,
    typed keys and numbers.
    """
    return content_digest(*to_host(tree))


def config_hash(config: Any) -> str:
    """Compute SHA-256 of a configuration as canonical JSON.

    It is made of dataclasses, mappings, sequences, numbers, strings and paths; anything
    else is refused by its key.
    """
    return json_hash(plain(config, "config"))


def content_digest(records: tuple[LeafRecord, ...], arrays: list[np.ndarray]) -> str:
    """Compute the :func:`digest` of a tree whose leaves are at hand, as bytes."""
    sha = hashlib.sha256()
    for record, array in sorted(
        zip(records, arrays, strict=True), key=lambda pair: pair[0].path
    ):
        # Dtype and shape are the array's own, not the record's: they are checked too.
        head = [record.path, record.key_impl, str(array.dtype), list(array.shape)]
        sha.update(json.dumps(head).encode() + b"\n")
        # As bytes, because bfloat16 has no buffer protocol.
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def check_dtype(path: str, dtype: np.dtype) -> None:
    """Raise where JAX, as it is configured now, would change the dtype."""
    try:
        held = jnp.asarray(np.zeros((), dtype)).dtype
    except TypeError as error:
        raise TypeError(
            f"The tree's leaf {path!r} has dtype {dtype}, which JAX does not know."
        ) from error
    if held != dtype:
        raise ValueError(
            f"The tree's leaf {path!r} has dtype {dtype}, of which JAX makes {held}: "
            "convert it, or set jax_enable_x64."
        )


def to_host(tree: Any) -> tuple[tuple[LeafRecord, ...], list[np.ndarray]]:
    """Describe every leaf, and bring it to the host."""
    records, arrays, seen = [], [], set()
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = trees.join(keys)
        if path in seen:
            raise ValueError(
                f"Two leaves of the tree share the path {path!r}: rename one."
            )
        seen.add(path)
        # NumPy's float64 is a Python float too, and has a dtype to be kept.
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            if not isinstance(leaf, bool | int | float | complex):
                raise TypeError(
                    f"The tree's leaf {path!r} is a {type(leaf).__name__}: only "
                    "arrays are saved."
                )
            try:
                leaf = jnp.asarray(leaf)
            except OverflowError as error:
                raise ValueError(
                    f"The tree's leaf {path!r} is {leaf}, which no array of JAX "
                    "holds: save it in the config."
                ) from error
        shape, dtype, impl = tuple(leaf.shape), str(leaf.dtype), None
        if isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            impl, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        elif not isinstance(leaf, jax.Array):
            check_dtype(path, leaf.dtype)
        records.append(LeafRecord(path, shape, dtype, impl))
        arrays.append(np.asarray(leaf))
    return tuple(records), arrays


def plain(value: Any, name: str) -> Any:
    """Write a value in JSON's own types; ``name`` says where it is, for messages."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {key: plain(getattr(value, key), f"{name}.{key}") for key in names}
    if isinstance(value, Mapping):
        for key in value:
            # JSON would write 1 as "1", and two configurations would share a hash.
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}; keys must be strings.")
        return {key: plain(each, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, f"{name}[{row}]") for row, each in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, pathlib.PurePath):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{name} is {value}, which JSON cannot hold: use None.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold.")


def json_hash(fields: Any) -> str:
    """Compute SHA-256 of what is JSON already, canonically written."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
