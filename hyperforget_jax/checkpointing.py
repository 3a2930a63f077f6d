"""Checkpoints: Orbax arrays under a manifest that says what they are.

A checkpoint is a folder::

    manifest.json   what the arrays are, and the digest they must have
    arrays-0/       an Orbax checkpoint of a flat dict, one entry a leaf

The manifest alone decides which arrays count. A save writes new arrays beside the
old ones and then replaces the manifest in one step, so that whoever reads finds the
old checkpoint or the new one, wherever the writer died. One writer a path at a time:
while one is at work (``.{name}.lock`` beside the folder says who), others are refused.
This file is longer than others, since what saves and what loads share that layout.

What a manifest holds is :mod:`hyperforget_jax.manifests`'s. This is the only module
that imports Orbax, which is why it is longer than others, and it does so late: the
import costs 0.4 s, which only those who save should pay.
"""

import contextlib
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import structs

from hyperforget_jax import atomic_write, digests, manifests, trees
from hyperforget_jax.digests import LeafRecord, config_hash, digest
from hyperforget_jax.manifests import (
    CorruptCheckpointError,
    Manifest,
    believing,
    read_manifest,
)

__all__ = [
    "CorruptCheckpointError",
    "LeafRecord",
    "Manifest",
    "believing",
    "config_hash",
    "digest",
    "load",
    "load_orbax",
    "read_manifest",
    "save",
    "save_orbax",
]

_ARRAYS = "arrays-"
_DRAFT = ".{}.saving"


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
    """Save a pytree of arrays; whole, or not at all.

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
        ValueError: two leaves of one path, a dtype that JAX would change, or a path
            on a remote store.
        BlockingIOError: another writer is at work on the path.
    """
    target = atomic_write.local_path("path", path)
    texts = dict(kind=kind, model=model, dataset=dataset, split=split)
    _check_texts(**texts)
    _check_free(target, overwrite)
    leaves, arrays = digests.to_host(tree)
    manifest = manifests.make_manifest(
        tree, leaves, arrays, config, **texts, arrays=_next_arrays(target)
    )
    with atomic_write.lock("path", target):
        # Another writer may have come and gone meanwhile.
        exists = _check_free(target, overwrite)
        manifest = structs.replace(manifest, arrays=_next_arrays(target))
        draft = target.with_name(_DRAFT.format(target.name))
        _sweep(target)
        # A first save grows beside its place, so that the path's existence means
        # something.
        root = target if exists else draft
        try:
            root.mkdir(parents=True, exist_ok=True)
            _write_arrays(root / manifest.arrays, arrays)
            _write_manifest(root, manifests.to_json(manifest))
            if not exists:
                os.rename(draft, target)
                _sync(target.parent)
        finally:
            # Reads the manifest in place to learn what to keep, so it is right after a
            # failure as well as after success.
            _sweep(target)
    return manifest


def _check_texts(**texts: Any) -> None:
    for name, value in texts.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a string, got {value!r:.80}.")


def _check_free(target: pathlib.Path, overwrite: bool) -> bool:
    """Tell whether a checkpoint is there; raise where nothing may be written."""
    exists = (target / manifests.FILE_NAME).exists()
    if exists and not overwrite:
        raise FileExistsError(
            f"{target} already holds a checkpoint: pass overwrite=True to replace it."
        )
    is_free = target.is_dir() and not any(target.iterdir())
    if not exists and os.path.lexists(target) and not is_free:
        raise FileExistsError(f"{target} exists and is no checkpoint: it is kept.")
    return exists


def load(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    like: Any = None,
    model: str | None = None,
) -> Any:
    """Load what :func:`save` saved, to the bit, or say why not.

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
        TypeError: a path, kind or model that is no string.
        ValueError: other kind or model, ``like`` does not fit, or a path on a remote
            store.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    target = atomic_write.local_path("path", path)
    wanted = {"kind": kind, "model": model}
    _check_texts(**{name: text for name, text in wanted.items() if text is not None})
    manifest = read_manifest(target)
    if kind is not None and manifest.kind != kind:
        raise ValueError(
            f"{target} holds {manifest.kind!r}, not {kind!r}, the kind that is wanted."
        )
    if model is not None and manifest.model != model:
        raise ValueError(
            f"{target} belongs to the model {manifest.model!r}, not {model!r}, that of "
            "the classifier at hand."
        )
    placements = {} if like is None else _check_like(target, manifest, like)
    for record in manifest.leaves:
        if record.key_impl is None:
            digests.check_dtype(record.path, np.dtype(record.dtype))
    arrays = _read_arrays(target, manifest)
    if digests.content_digest(manifest.leaves, arrays) != manifest.digest:
        raise manifests.corrupt(target, "its arrays are not those that were saved")
    leaves = {
        record.path: _to_device(record, array, placements.get(record.path))
        for record, array in zip(manifest.leaves, arrays, strict=True)
    }
    if like is None:
        return manifests.rebuild(manifest.structure, iter(leaves.values()))
    return jax.tree.unflatten(
        jax.tree.structure(like), [leaves[path] for path in trees.leaf_paths(like)]
    )


def load_orbax(path: str | os.PathLike[str]) -> Any:
    """Load a tree that Orbax itself saved, with no manifest to vouch for it.

    In its newer layout or in its older one. Of a checkpoint manager's folder, name the
    step: ``path/7``.

    Args:
        path: the checkpoint's folder.

    Returns:
        Nested dicts and lists of JAX arrays, on the default device wherever they were.

    Raises:
        FileNotFoundError: no folder there.
        TypeError: a path that is no string.
        ValueError: what Orbax cannot read, or a path on a remote store.
    """
    target = atomic_write.local_path("path", path)
    if not target.is_dir():
        raise FileNotFoundError(f"{target} holds no checkpoint: it is no folder.")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def wanted(leaf: Any) -> Any:
        if not hasattr(leaf, "shape"):
            return leaf  # A number.
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)

    try:
        with _reading() as orbax:
            described = jax.tree.map(wanted, orbax.metadata(target).metadata)
            leaves = jax.tree.leaves(described)
            sized = [each for each in leaves if hasattr(each, "shape")]
            _check_size([(each.shape, np.dtype(each.dtype)) for each in sized])
            return orbax.load(target, described)
    except Exception as error:
        raise ValueError(
            f"{target} cannot be read by Orbax: {error} (A manager of checkpoints has "
            "a folder for each step: name one of these.)"
        ) from error


def save_orbax(path: str | os.PathLike[str], tree: Any) -> None:
    """Save a tree of arrays as Orbax itself does, for programs that know no manifest.

    In Orbax's older layout, which ``StandardCheckpointer`` and its newer interface both
    read.

    Args:
        path: the checkpoint's folder, which must not be there.
        tree: arrays in dicts, lists and tuples; not without any, nor any without
            entries.
    """
    import orbax.checkpoint as older

    target = atomic_write.local_path("path", path)
    if jax.process_count() > 1:
        _save(target, tree)
        return
    with older.StandardCheckpointer() as saver:
        saver.save(target, tree)


def _to_device(record: LeafRecord, array: np.ndarray, sharding: Any) -> jax.Array:
    if record.key_impl is None:
        return jax.device_put(array, sharding)
    keys = jax.random.wrap_key_data(jnp.asarray(array), impl=record.key_impl)
    return jax.device_put(keys, sharding)


def _check_like(target: pathlib.Path, manifest: Manifest, like: Any) -> dict[str, Any]:
    """Look up the sharding wanted of every leaf; raise where the trees differ."""
    saved = {record.path: record for record in manifest.leaves}
    wanted = {path: _wanted(path, leaf) for path, leaf in trees.by_path(like).items()}
    fault = f"{target} does not fit like: "
    for path, leaf in wanted.items():
        if path not in saved:
            raise ValueError(f"{fault}it has no leaf {path!r}.")
        held = saved[path]
        for name, has, wants in (
            ("shape", held.shape, tuple(leaf.shape)),
            ("dtype", held.dtype, str(leaf.dtype)),
        ):
            if has != wants:
                raise ValueError(
                    f"{fault}its leaf {path!r} has {name} {has}, not {wants}."
                )
    for path in saved:
        if path not in wanted:
            raise ValueError(f"{fault}it has the leaf {path!r}, which is not wanted.")
    return {path: _sharding(leaf) for path, leaf in wanted.items()}


def _wanted(path: str, leaf: Any) -> Any:
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return leaf
    try:
        return jnp.asarray(leaf)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"like must be a tree of arrays or jax.ShapeDtypeStruct, got a "
            f"{type(leaf).__name__} as its leaf {path!r}."
        ) from error


def _sharding(leaf: Any) -> Any:
    # To commit what was uncommitted would keep it from meeting sharded arrays.
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return None
    return getattr(leaf, "sharding", None)


def _orbax() -> Any:
    import orbax.checkpoint.experimental.v1 as orbax

    return orbax


@contextlib.contextmanager
def _reading() -> Iterator[Any]:
    """Give Orbax, which is not to wait until other processes read the same."""
    orbax = _orbax()
    context = orbax.Context()
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    with context:
        yield orbax


def _save(folder: pathlib.Path, tree: Any) -> None:
    if jax.process_count() == 1:
        _orbax().save(folder, tree)
        return
    # One process of several saves. The newer interface waits for all of them, whatever
    # its options say; the older one does not, and the newer one reads what it writes.
    import orbax.checkpoint as older

    here = jax.process_index()
    alone = older.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"{here}"
    )
    handler = older.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with older.Checkpointer(handler, multiprocessing_options=alone) as saver:
        saver.save(folder, older.args.PyTreeSave(tree))


def _write_arrays(folder: pathlib.Path, arrays: list[np.ndarray]) -> None:
    # Orbax refuses empty arrays and empty trees. An empty array is all in its record.
    full = {str(row): array for row, array in enumerate(arrays) if array.size}
    if full:
        _save(folder, full)
    else:
        folder.mkdir()
    for written in folder.rglob("*"):
        _sync(written)
    _sync(folder)


def _read_arrays(target: pathlib.Path, manifest: Manifest) -> list[np.ndarray]:
    try:
        wanted = [_stored_as(record) for record in manifest.leaves]
        _check_size(wanted)
        full = {str(row): each for row, each in enumerate(wanted) if math.prod(each[0])}
        stored = _read_orbax(target / manifest.arrays, full) if full else {}
        return [
            np.asarray(stored[str(row)]) if str(row) in full else np.zeros(*each)
            for row, each in enumerate(wanted)
        ]
    except Exception as error:
        raise manifests.corrupt(
            target, f"its arrays cannot be read: {error}"
        ) from error


def _check_size(leaves: list[tuple[tuple[int, ...], np.dtype]]) -> None:
    # An array of zeros takes no room on disk, so that its file tells nothing.
    wanted = sum(math.prod(shape) * dtype.itemsize for shape, dtype in leaves)
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > held:
        raise ValueError(
            f"its arrays take {wanted:.3g} bytes, more than this machine's memory of "
            f"{held:.3g}"
        )


def _read_orbax(folder: pathlib.Path, wanted: dict[str, Any]) -> dict[str, Any]:
    # Before they are read: a shape that nothing vouches for may be of any size.
    with _reading() as orbax:
        described = orbax.metadata(folder).metadata
        found = {
            row: (tuple(each.shape), each.dtype) for row, each in described.items()
        }
        if found != wanted:
            raise ValueError("their shapes and dtypes are not those of the manifest")
        return orbax.load(folder)


def _stored_as(record: LeafRecord) -> tuple[tuple[int, ...], np.dtype]:
    """Tell shape and dtype of a leaf's array, which for typed keys holds their bits."""
    if record.key_impl is None:
        return record.shape, np.dtype(record.dtype)
    one = jax.eval_shape(
        lambda: jax.random.key_data(jax.random.key(0, impl=record.key_impl))
    )
    return (*record.shape, *one.shape), one.dtype


def _write_manifest(root: pathlib.Path, text: str) -> None:
    new = root / f"{manifests.FILE_NAME}.new"
    new.write_text(text, encoding="utf-8")
    _sync(new)
    # The moment at which the checkpoint becomes the new one.
    os.replace(new, root / manifests.FILE_NAME)
    _sync(root)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _next_arrays(target: pathlib.Path) -> str:
    """Choose a folder name that is neither in use nor left over."""
    taken = [each.name.removeprefix(_ARRAYS) for each in target.glob(f"{_ARRAYS}*")]
    return f"{_ARRAYS}{1 + max((int(n) for n in taken if n.isdecimal()), default=-1)}"


def _sweep(target: pathlib.Path) -> None:
    """Remove what dead saves left, and nothing that a manifest vouches for."""
    shutil.rmtree(target.with_name(_DRAFT.format(target.name)), ignore_errors=True)
    try:
        keep = read_manifest(target).arrays
    except (FileNotFoundError, ValueError):
        return
    for folder in target.glob(f"{_ARRAYS}*"):
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)
    (target / f"{manifests.FILE_NAME}.new").unlink(missing_ok=True)
