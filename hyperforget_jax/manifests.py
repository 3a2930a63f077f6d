"""What a checkpoint says of itself.

Structure is kept in the manifest and not by Orbax, which refuses empty trees and
empty arrays and forgets tuples. A digest vouches for the arrays, and a seal for
everything beside them. A seal does not say who wrote a manifest: a folder from
elsewhere may have been made by hand, so nothing of it is believed before it fits.
"""

import contextlib
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Annotated, Any

import jax
import msgspec
import numpy as np

from hyperforget_jax import atomic_write, digests

__all__ = [
    "FILE_NAME",
    "CorruptCheckpointError",
    "Manifest",
    "believing",
    "corrupt",
    "make_manifest",
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


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint is.

    Attributes:
        schema: version of the manifest's own format.
        kind: what was saved, ``"variables"``, ``"state/ssd"``, ``"population"``.
        model: the classifier's description.
        dataset: the data set's name.
        split: which part of it.
        versions: versions of the packages that wrote it.
        config: the configuration, as plain JSON.
        config_hash: its hash.
        structure: the tree with its leaves taken out.
        leaves: its leaves, in order.
        digest: the digest of the tree.
        arrays: the folder beside the manifest that holds the arrays.
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
    leaves: tuple[digests.LeafRecord, ...]
    digest: str
    # No other folder, above it or elsewhere.
    arrays: Annotated[str, msgspec.Meta(pattern="^arrays-[0-9]{1,18}$")]


def make_manifest(
    tree: Any,
    leaves: tuple[digests.LeafRecord, ...],
    host: list[np.ndarray],
    config: Any,
    **texts: str,
) -> Manifest:
    """Make the manifest of a tree whose leaves are at hand."""
    config = digests.plain(config, "config")
    return Manifest(
        schema=_SCHEMA,
        versions=package_versions(),
        config=config,
        config_hash=digests.json_hash(config),
        structure=_structure(tree),
        leaves=leaves,
        digest=digests.content_digest(leaves, host),
        **texts,
    )


def to_json(manifest: Manifest) -> str:
    """Write the manifest as its file's text, sealed."""
    fields = msgspec.to_builtins(manifest)
    return json.dumps({**fields, "seal": digests.json_hash(fields)}, indent=1) + "\n"


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read what the checkpoint in a folder is; its arrays are not looked at.

    Raises:
        FileNotFoundError: no checkpoint there.
        CorruptCheckpointError: the manifest is truncated or altered.
        ValueError: a format of another version, or a path on a remote store.
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
        sealed = seal == digests.json_hash(fields)
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
        manifest = msgspec.convert(fields, Manifest)
        _check_leaves(manifest)
    except (ValueError, RecursionError) as error:
        raise corrupt(target, f"its manifest is malformed, {error}") from error
    return manifest


@contextlib.contextmanager
def believing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Read on in what a sound manifest carries, which may yet be malformed.

    What goes wrong within is a CorruptCheckpointError: a configuration or a tree that
    lacks what its kind has.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise corrupt(
            atomic_write.local_path("path", path),
            f"what it holds is not of its kind ({type(error).__name__}: {error})",
        ) from error


def rebuild(structure: Any, leaves: Iterator[Any]) -> Any:
    """Rebuild the tree of a manifest's structure, its leaves taken in order."""
    match structure:
        case None:
            return None
        case "leaf":
            return next(leaves)
        case {"list": children}:
            return [rebuild(child, leaves) for child in children]
        case {"tuple": children}:
            return tuple(rebuild(child, leaves) for child in children)
        case _:
            return {key: rebuild(child, leaves) for key, child in structure["dict"]}


def corrupt(target: pathlib.Path, why: str) -> CorruptCheckpointError:
    """Make what to raise where a checkpoint is not what its manifest says."""
    return CorruptCheckpointError(
        f"{target} is truncated or altered, its content digest does not match: {why}."
    )


@functools.cache
def package_versions() -> dict[str, str]:
    """Look up the versions of Python and of the packages that numbers depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _structure(node: Any) -> Any:
    """Write the tree's structure as JSON, a leaf's place held by ``"leaf"``."""
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


def _check_leaves(manifest: Manifest) -> None:
    paths = [leaf.path for leaf in manifest.leaves]
    if paths != list(_paths(manifest.structure)):
        raise ValueError("its structure has other leaves than it lists")
    if len(set(paths)) < len(paths):
        raise ValueError("it lists two leaves of one path")
    for leaf in manifest.leaves:
        if leaf.key_impl is None and not _is_number(leaf.dtype):
            raise ValueError(f"{leaf.path!r} is {leaf.dtype!r}, no dtype of an array")


def _is_number(name: str) -> bool:
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return False
    # bfloat16 and its like are void to NumPy, but have names of their own.
    return str(dtype) == name and dtype.kind in "biufcV" and dtype.fields is None


def _paths(structure: Any, *above: Any) -> Iterator[str]:
    """List the paths of a structure's leaves, in order."""
    match structure:
        case None:
            return
        case "leaf":
            yield "/".join(map(str, above))
            return
        case {"list": [*children]} | {"tuple": [*children]}:
            pairs = [[row, child] for row, child in enumerate(children)]
        case {"dict": [*pairs]}:
            pass
        case _:
            raise ValueError(f"its structure has the node {structure!r:.50}")
    if len(structure) != 1:
        raise ValueError(f"its structure has a node of {sorted(structure)}")
    for pair in pairs:
        match pair:
            case [str() | int() as key, child]:
                yield from _paths(child, *above, key)
            case _:
                raise ValueError(f"its structure has the entry {pair!r:.50}")
