"""Checkpoints: Orbax arrays under a manifest that says what they are.

A checkpoint is a folder::

    manifest.json   what the arrays are, and the digest they must have
    arrays-0/       an Orbax checkpoint of a flat dict, one entry a leaf

The manifest alone decides which arrays count. A save writes new arrays beside the
old ones and then replaces the manifest in one step, so that whoever reads finds the
old checkpoint or the new one, wherever the writer died. One writer a path at a time.

Structure is kept in the manifest and not by Orbax, which refuses empty trees and
empty arrays and forgets tuples. This is the only module that imports Orbax, and it
does so late: the import costs 0.4 s, which only those who save should pay.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "CorruptCheckpointError",
    "LeafRecord",
    "Manifest",
    "config_hash",
    "digest",
    "load",
    "read_manifest",
    "save",
]

_SCHEMA = 1
_MANIFEST = "manifest.json"
_ARRAYS = "arrays-"
_PACKAGES = ("hyperforget_jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


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


def save(
    path: str | os.PathLike[str],
    tree: Any,
    *,
    kind: str,
    model: str = "",
    dataset: str = "",
    split: str = "",
    config: Any = None,
    overwrite: bool = False,
) -> Manifest:
    """Saves a pytree of arrays; whole, or not at all.

    Args:
        path: the checkpoint's folder, made together with its parents.
        tree: arrays, typed keys and numbers in dicts, tuples, NamedTuples or any
            registered node. Numbers become the arrays that JAX makes of them.
        kind: what it is, ``"variables"``, ``"state/ssd"``, ``"population"``.
        model: the classifier's description.
        dataset: the data set's name.
        split: which part of it.
        config: dataclasses, mappings, sequences, numbers, strings and paths.
        overwrite: whether to replace an older checkpoint, which stays readable until
            the new one is complete.

    Returns:
        The manifest as written.

    Raises:
        FileExistsError: there is a checkpoint already, or something else.
        TypeError: a leaf that is no array, or a configuration that JSON cannot hold.
        ValueError: two leaves of one path, or a dtype that JAX would change.
    """
    target = pathlib.Path(path).absolute()
    exists = (target / _MANIFEST).exists()
    if exists and not overwrite:
        raise FileExistsError(
            f"{target} already holds a checkpoint: pass overwrite=True to replace it."
        )
    if not exists and os.path.lexists(target) and not _is_empty_folder(target):
        raise FileExistsError(f"{target} exists and is no checkpoint: it is kept.")
    plain = _plain(config, "config")
    records, arrays = _to_host(tree)
    manifest = Manifest(
        schema=_SCHEMA,
        kind=kind,
        model=model,
        dataset=dataset,
        split=split,
        versions=_versions(),
        config=plain,
        config_hash=_hash(plain),
        structure=_describe(tree),
        leaves=records,
        digest=_digest(records, arrays),
        arrays=_next_arrays(target),
    )
    text = _to_json(manifest)
    draft = _draft(target)
    _sweep(target)
    # A first save grows beside its place, so that the path's existence means something.
    root = target if exists else draft
    try:
        root.mkdir(parents=True, exist_ok=True)
        _write_arrays(root / manifest.arrays, arrays)
        _write_manifest(root, text)
        if not exists:
            os.rename(draft, target)
            _sync(target.parent)
    finally:
        # Reads the manifest in place to learn what to keep, so it is right after a
        # failure as well as after success.
        _sweep(target)
    return manifest


def load(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    like: Any = None,
    model: str | None = None,
) -> Any:
    """Loads what :func:`save` saved, to the bit, or says why not.

    Args:
        path: the checkpoint's folder.
        kind: what it must be, if that matters.
        like: a tree of arrays or ``jax.ShapeDtypeStruct`` (such as ``jax.eval_shape``
            gives) of the structure wanted; leaves are matched by path. Leaves come
            back on the ``sharding`` of those that carry one, except for arrays that
            are not committed to a device. Without it dicts, lists and tuples come
            back as such, and NamedTuples and other nodes as dicts.
        model: the classifier's description that it must have, if that matters.

    Returns:
        The tree, of JAX arrays; on the default device where ``like`` says nothing.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: other kind or model, or ``like`` does not fit.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    target = pathlib.Path(path).absolute()
    manifest = read_manifest(target)
    if kind is not None and manifest.kind != kind:
        raise ValueError(f"{target} holds {manifest.kind!r}, not {kind!r}.")
    if model is not None and manifest.model != model:
        raise ValueError(
            f"{target} belongs to the model {manifest.model!r}, not {model!r}."
        )
    placements: dict[str, Any] = {}
    if like is not None:
        placements = _check_like(target, manifest, like)
    for record in manifest.leaves:
        if record.key_impl is None:
            _check_dtype(record.path, np.dtype(record.dtype))
    arrays = _read_arrays(target, manifest)
    if _digest(manifest.leaves, arrays) != manifest.digest:
        raise _corrupt(target, "its arrays are not those that were saved")
    leaves = {
        record.path: _to_device(record, array, placements.get(record.path))
        for record, array in zip(manifest.leaves, arrays, strict=True)
    }
    if like is None:
        return _rebuild(manifest.structure, iter(leaves.values()))
    wanted, treedef = jax.tree_util.tree_flatten_with_path(like)
    return treedef.unflatten([leaves[_name(keys)] for keys, _ in wanted])


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """What the checkpoint is; its arrays are not looked at.

    Args:
        path: the checkpoint's folder.

    Raises:
        FileNotFoundError: no checkpoint there.
        CorruptCheckpointError: the manifest is truncated or altered.
        ValueError: the manifest has a format of another version.
    """
    target = pathlib.Path(path).absolute()
    try:
        text = (target / _MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{target} holds no checkpoint: there is no {_MANIFEST}."
        ) from error
    try:
        fields = json.loads(text)
        seal = fields.pop("seal")
        sealed = seal == _hash(fields)
    except Exception as error:
        raise _corrupt(target, f"its manifest cannot be read: {error}") from error
    if not sealed:
        raise _corrupt(target, "its manifest is not the one that was saved")
    if fields["schema"] != _SCHEMA:
        raise ValueError(
            f"{target} has a manifest of schema {fields['schema']}; this version of "
            f"hyperforget_jax reads schema {_SCHEMA}."
        )
    leaves = tuple(
        LeafRecord(leaf["path"], tuple(leaf["shape"]), leaf["dtype"], leaf["key_impl"])
        for leaf in fields.pop("leaves")
    )
    return Manifest(leaves=leaves, **fields)


def digest(tree: Any) -> str:
    """SHA-256 over the leaves' paths, dtypes, shapes and bytes, in order of path.

    A NamedTuple and the dict of its fields have the same digest.

    Args:
        tree: as for :func:`save`.

    Raises:
        TypeError: a leaf that is no array.
        ValueError: two leaves of one path, or a dtype that JAX would change.
    """
    return _digest(*_to_host(tree))


def config_hash(config: Any) -> str:
    """SHA-256 of a configuration as canonical JSON.

    Args:
        config: as for :func:`save`.

    Raises:
        TypeError: something JSON cannot hold, named by its key.
    """
    return _hash(_plain(config, "config"))


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


def _to_json(manifest: Manifest) -> str:
    fields = json.loads(json.dumps(dataclasses.asdict(manifest)))
    # The digest vouches for the arrays; the seal vouches for everything beside them.
    return json.dumps({**fields, "seal": _hash(fields)}, indent=1) + "\n"


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _name(keys: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _check_dtype(path: str, dtype: np.dtype) -> None:
    """Raises where JAX, as it is configured now, would change the dtype."""
    try:
        held = jnp.asarray(np.zeros((), dtype)).dtype
    except TypeError as error:
        raise TypeError(
            f"The leaf {path!r} has dtype {dtype}, which JAX does not know."
        ) from error
    if held != dtype:
        raise ValueError(
            f"The leaf {path!r} has dtype {dtype}, of which JAX makes {held}: convert "
            "it, or set jax_enable_x64."
        )


def _to_host(tree: Any) -> tuple[tuple[LeafRecord, ...], list[np.ndarray]]:
    """Every leaf's record, and its bytes in host memory."""
    records, arrays, seen = [], [], set()
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = _name(keys)
        if path in seen:
            raise ValueError(f"Two leaves share the path {path!r}: rename one.")
        seen.add(path)
        # NumPy's float64 is a Python float too, and has a dtype to be kept.
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            if not isinstance(leaf, bool | int | float | complex):
                raise TypeError(
                    f"The leaf {path!r} is a {type(leaf).__name__}: only arrays are "
                    "saved."
                )
            leaf = jnp.asarray(leaf)
        record = LeafRecord(path, tuple(leaf.shape), str(leaf.dtype))
        if isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            impl = str(jax.random.key_impl(leaf))
            record = dataclasses.replace(record, key_impl=impl)
            leaf = jax.random.key_data(leaf)
        elif not isinstance(leaf, jax.Array):
            _check_dtype(path, leaf.dtype)
        records.append(record)
        arrays.append(np.asarray(leaf))
    return tuple(records), arrays


def _to_device(record: LeafRecord, array: np.ndarray, sharding: Any) -> jax.Array:
    if record.key_impl is None:
        return jax.device_put(array, sharding)
    keys = jax.random.wrap_key_data(jnp.asarray(array), impl=record.key_impl)
    return jax.device_put(keys, sharding)


def _digest(records: tuple[LeafRecord, ...], arrays: list[np.ndarray]) -> str:
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


def _describe(node: Any) -> Any:
    """The tree's structure as JSON, a leaf's place held by ``"leaf"``."""
    if node is None:
        return None
    children = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda inner: inner is not node
    )[0]
    if any(not keys for keys, _ in children):
        return "leaf"
    if isinstance(node, list):
        return {"list": [_describe(child) for _, child in children]}
    if isinstance(node, tuple) and not hasattr(node, "_fields"):
        return {"tuple": [_describe(child) for _, child in children]}
    return {"dict": [[_key(keys[0]), _describe(child)] for keys, child in children]}


def _key(entry: Any) -> str | int:
    key = entry.name if hasattr(entry, "name") else getattr(entry, "key", None)
    if key is None:
        key = entry.idx
    if not isinstance(key, str | int):
        raise TypeError(f"The key {key!r} of a dict is neither string nor integer.")
    return key


def _rebuild(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return None
    if structure == "leaf":
        return next(leaves)
    ((node, children),) = structure.items()
    if node == "list":
        return [_rebuild(child, leaves) for child in children]
    if node == "tuple":
        return tuple(_rebuild(child, leaves) for child in children)
    return {key: _rebuild(child, leaves) for key, child in children}


def _check_like(target: pathlib.Path, manifest: Manifest, like: Any) -> dict[str, Any]:
    """The sharding wanted of every leaf, by path; raises where the trees differ."""
    saved = {record.path: record for record in manifest.leaves}
    wanted = {
        _name(keys): leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_flatten_with_path(like)[0]
    }
    for path, leaf in wanted.items():
        if path not in saved:
            raise ValueError(f"{target} does not fit: it has no leaf {path!r}.")
        held = saved[path]
        if held.shape != tuple(leaf.shape):
            raise ValueError(
                f"{target} does not fit: its leaf {path!r} has shape {held.shape}, "
                f"not {tuple(leaf.shape)}."
            )
        if held.dtype != str(leaf.dtype):
            raise ValueError(
                f"{target} does not fit: its leaf {path!r} has dtype {held.dtype}, "
                f"not {leaf.dtype}."
            )
    for path in saved:
        if path not in wanted:
            raise ValueError(
                f"{target} does not fit: it has the leaf {path!r}, which is not wanted."
            )
    return {path: _sharding(leaf) for path, leaf in wanted.items()}


def _sharding(leaf: Any) -> Any:
    # To commit what was uncommitted would keep it from meeting sharded arrays.
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return None
    return getattr(leaf, "sharding", None)


def _corrupt(target: pathlib.Path, why: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"{target} is truncated or altered, its content digest does not match: {why}."
    )


def _orbax() -> Any:
    import orbax.checkpoint.experimental.v1 as orbax

    return orbax


def _write_arrays(folder: pathlib.Path, arrays: list[np.ndarray]) -> None:
    # Orbax refuses empty arrays and empty trees. An empty array is all in its record.
    full = {str(row): array for row, array in enumerate(arrays) if array.size}
    if full:
        _orbax().save(folder, full)
    else:
        folder.mkdir()
    for written in folder.rglob("*"):
        _sync(written)
    _sync(folder)


def _read_arrays(target: pathlib.Path, manifest: Manifest) -> list[np.ndarray]:
    held = [math.prod(record.shape) > 0 for record in manifest.leaves]
    orbax = _orbax()
    try:
        stored = orbax.load(target / manifest.arrays) if any(held) else {}
        return [
            np.asarray(stored[str(row)]) if held[row] else _no_elements(record)
            for row, record in enumerate(manifest.leaves)
        ]
    except Exception as error:
        raise _corrupt(target, f"its arrays cannot be read: {error}") from error


def _no_elements(record: LeafRecord) -> np.ndarray:
    if record.key_impl is None:
        return np.zeros(record.shape, np.dtype(record.dtype))
    one = jax.random.key_data(jax.random.key(0, impl=record.key_impl))
    return np.zeros((*record.shape, *one.shape), one.dtype)


def _write_manifest(root: pathlib.Path, text: str) -> None:
    new = root / f"{_MANIFEST}.new"
    new.write_text(text, encoding="utf-8")
    _sync(new)
    # The moment at which the checkpoint becomes the new one.
    os.replace(new, root / _MANIFEST)
    _sync(root)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".{target.name}.saving")


def _is_empty_folder(target: pathlib.Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


def _next_arrays(target: pathlib.Path) -> str:
    """A folder name that is neither in use nor left over."""
    taken = [each.name.removeprefix(_ARRAYS) for each in target.glob(f"{_ARRAYS}*")]
    return f"{_ARRAYS}{1 + max((int(n) for n in taken if n.isdecimal()), default=-1)}"


def _sweep(target: pathlib.Path) -> None:
    """Removes what dead saves left, and nothing that a manifest vouches for."""
    shutil.rmtree(_draft(target), ignore_errors=True)
    try:
        keep = read_manifest(target).arrays
    except (FileNotFoundError, ValueError):
        return
    for folder in target.glob(f"{_ARRAYS}*"):
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)
    (target / f"{_MANIFEST}.new").unlink(missing_ok=True)
