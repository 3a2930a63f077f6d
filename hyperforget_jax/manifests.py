"""What a checkpoint says of itself, and the digests that hold it to that.

Structure is kept in the manifest and not by Orbax, which refuses empty trees and
empty arrays and forgets tuples. A digest vouches for the arrays, and a seal for
everything beside them.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import atomic_write, manifest_schema, trees

__all__ = [
    "FILE_NAME",
    "CorruptCheckpointError",
    "LeafRecord",
    "Manifest",
    "believing",
    "check_dtype",
    "config_hash",
    "content_digest",
    "corrupt",
    "describe",
    "digest",
    "package_versions",
    "read_manifest",
    "rebuild",
    "to_json",
]

FILE_NAME = "manifest.json"

_SCHEMA = 1
_PACKAGES = (
    "hyperforget-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scikit-learn",
)


class CorruptCheckpointError(ValueError):
    """A checkpoint's files are not what its manifest says."""


@dataclasses.dataclass(frozen=True)
class LeafRecord:
    """One array of a checkpoint.

    Attributes:
        path: where it is in the tree, ``"variables/params/Dense_0/kernel"``.
        shape: its shape.
        dtype: its dtype's name, ``"bfloat16"`` or ``"key<fry>"``.
        key_impl: for typed keys, the name of their implementation.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    key_impl: str | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint is.

    Attributes:
        schema: version of the manifest's own format.
        kind: what was saved, ``"variables"``, ``"state/ssd"``, ``"population"``.
        model: the classifier's description.
        dataset: the data set's name.
        split: which part of it.
        versions: versions of the packages that wrote it.
        config: the configuration, as plain JSON.
        config_hash: its :func:`config_hash`.
        structure: the tree with its leaves taken out.
        leaves: its leaves, in order.
        digest: the :func:`digest` of the tree.
        arrays: the folder that holds the arrays.
    """

    schema: int
    kind: str
    model: str
    dataset: str
    split: str
    versions: dict[str, str]
    config: Any
    config_hash: str
    structure: Any
    leaves: tuple[LeafRecord, ...]
    digest: str
    arrays: str


def describe(
    tree: Any,
    *,
    kind: str,
    model: str,
    dataset: str,
    split: str,
    config: Any,
    arrays: str,
) -> tuple[Manifest, list[np.ndarray]]:
    """The manifest of a tree's checkpoint, and its leaves in host memory, in order.

    Args:
        tree: arrays, typed keys and numbers in dicts, tuples, NamedTuples or any
            registered node. Numbers become the arrays that JAX makes of them.
        kind: as in :class:`Manifest`, like all that follow.
        model: the classifier's description.
        dataset: the data set's name.
        split: which part of it.
        config: dataclasses, mappings, sequences, numbers, strings and paths.
        arrays: the folder that is to hold the arrays.

    Raises:
        TypeError: a leaf that is no array, or a configuration that JSON cannot hold.
        ValueError: two leaves of one path, or a dtype that JAX would change.
    """
    plain = _plain(config, "config")
    records, leaves = _to_host(tree)
    manifest = Manifest(
        schema=_SCHEMA,
        kind=kind,
        model=model,
        dataset=dataset,
        split=split,
        versions=package_versions(),
        config=plain,
        config_hash=_hash(plain),
        structure=_structure(tree),
        leaves=records,
        digest=content_digest(records, leaves),
        arrays=arrays,
    )
    return manifest, leaves


def to_json(manifest: Manifest) -> str:
    """The manifest as its file's text, sealed."""
    fields = json.loads(json.dumps(dataclasses.asdict(manifest)))
    return json.dumps({**fields, "seal": _hash(fields)}, indent=1) + "\n"


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """What the checkpoint is; its arrays are not looked at.

    Args:
        path: the checkpoint's folder.

    Raises:
        FileNotFoundError: no checkpoint there.
        CorruptCheckpointError: the manifest is truncated or altered.
        ValueError: the manifest has a format of another version, or ``path`` is on a
            remote store.
    """
    target = atomic_write.local_path("path", path)
    try:
        text = (target / FILE_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{target} holds no checkpoint: there is no {FILE_NAME}."
        ) from error
    try:
        fields = json.loads(text)
        seal = fields.pop("seal")
        sealed = seal == _hash(fields)
    except Exception as error:
        raise corrupt(target, f"its manifest cannot be read: {error}") from error
    if not sealed:
        raise corrupt(target, "its manifest is not the one that was saved")
    schema = fields.get("schema")
    if type(schema) is int and schema != _SCHEMA:
        raise ValueError(
            f"{target} has a manifest of schema {schema}; this version of "
            f"hyperforget_jax reads schema {_SCHEMA}."
        )
    try:
        manifest_schema.check_fields(fields)
    except (ValueError, RecursionError) as error:
        raise corrupt(target, f"its manifest is malformed, {error}") from error
    leaves = tuple(
        LeafRecord(leaf["path"], tuple(leaf["shape"]), leaf["dtype"], leaf["key_impl"])
        for leaf in fields.pop("leaves")
    )
    return Manifest(leaves=leaves, **fields)


@contextlib.contextmanager
def believing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Reads on in what a sound manifest carries, which may yet be malformed.

    What goes wrong within is said to be the checkpoint's fault: a configuration or a
    tree without the entries that its kind has.

    Args:
        path: the checkpoint's folder.

    Raises:
        CorruptCheckpointError: something is missing, or not of its kind.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise corrupt(
            atomic_write.local_path("path", path),
            f"what it holds is not of its kind ({type(error).__name__}: {error})",
        ) from error


def digest(tree: Any) -> str:
    """SHA-256 over the leaves' paths, dtypes, shapes and bytes, in order of path.

    A NamedTuple and the dict of its fields have the same digest.

    Args:
        tree: arrays, typed keys and numbers, as for :func:`describe`.

    Raises:
        TypeError: a leaf that is no array.
        ValueError: two leaves of one path, or a dtype that JAX would change.
    """
    return content_digest(*_to_host(tree))


def config_hash(config: Any) -> str:
    """SHA-256 of a configuration as canonical JSON.

    Args:
        config: as for :func:`describe`.

    Raises:
        TypeError: something JSON cannot hold, named by its key.
    """
    return _hash(_plain(config, "config"))


def content_digest(records: tuple[LeafRecord, ...], arrays: list[np.ndarray]) -> str:
    """The :func:`digest` of a tree whose leaves are at hand, recorded and as bytes."""
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
    """Raises where JAX, as it is configured now, would change the dtype."""
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


def rebuild(structure: Any, leaves: Iterator[Any]) -> Any:
    """The tree of a manifest's structure, its leaves taken in order."""
    if structure is None:
        return None
    if structure == "leaf":
        return next(leaves)
    ((node, children),) = structure.items()
    if node == "list":
        return [rebuild(child, leaves) for child in children]
    if node == "tuple":
        return tuple(rebuild(child, leaves) for child in children)
    return {key: rebuild(child, leaves) for key, child in children}


def corrupt(target: pathlib.Path, why: str) -> CorruptCheckpointError:
    """What to raise where a checkpoint is not what its manifest says."""
    return CorruptCheckpointError(
        f"{target} is truncated or altered, its content digest does not match: {why}."
    )


def _to_host(tree: Any) -> tuple[tuple[LeafRecord, ...], list[np.ndarray]]:
    """Every leaf's record, and its bytes in host memory."""
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
        record = LeafRecord(path, tuple(leaf.shape), str(leaf.dtype))
        if isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            impl = str(jax.random.key_impl(leaf))
            record = dataclasses.replace(record, key_impl=impl)
            leaf = jax.random.key_data(leaf)
        elif not isinstance(leaf, jax.Array):
            check_dtype(path, leaf.dtype)
        records.append(record)
        arrays.append(np.asarray(leaf))
    return tuple(records), arrays


def _structure(node: Any) -> Any:
    """The tree's structure as JSON, a leaf's place held by ``"leaf"``."""
    if node is None:
        return None
    children = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda inner: inner is not node
    )[0]
    if any(not keys for keys, _ in children):
        return "leaf"
    if isinstance(node, list):
        return {"list": [_structure(child) for _, child in children]}
    if isinstance(node, tuple) and not hasattr(node, "_fields"):
        return {"tuple": [_structure(child) for _, child in children]}
    return {"dict": [[_key(keys[0]), _structure(child)] for keys, child in children]}


def _key(entry: Any) -> str | int:
    key = entry.name if hasattr(entry, "name") else getattr(entry, "key", None)
    if key is None:
        key = entry.idx
    if not isinstance(key, str | int):
        raise TypeError(f"The key {key!r} of a dict is neither string nor integer.")
    return key


def _plain(value: Any, name: str) -> Any:
    """The value as JSON's own types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {key: _plain(getattr(value, key), f"{name}.{key}") for key in names}
    if isinstance(value, Mapping):
        for key in value:
            # JSON would write 1 as "1", and two configurations would share a hash.
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}; keys must be strings.")
        return {key: _plain(each, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{name}[{row}]") for row, each in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, pathlib.PurePath):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{name} is {value}, which JSON cannot hold: use None.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold.")


def _hash(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that a number may depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
