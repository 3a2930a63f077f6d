"""Zoos on disk, part by part: made where they are missing, read when needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hyperforget_jax import atomic_write, checkpointing, checks
from hyperforget_jax.hypernet.zoo import Zoo

__all__ = ["load_zoo", "save_zoo", "stored_zoo"]

_KIND = "zoo"


def save_zoo(path: str | os.PathLike[str], zoo: Zoo, *, model: str = "") -> None:
    """Keeps a zoo, its labels included, as a checkpoint with its manifest.

    Args:
        path: the checkpoint's folder.
        zoo: what to keep.
        model: the classifier's description.

    Raises:
        TypeError: no zoo.
        FileExistsError: there is something already.
    """
    checks.check_is(Zoo, "a hypernet.Zoo", zoo=zoo)
    checkpointing.save(path, zoo, kind=_KIND, model=model)


def load_zoo(path: str | os.PathLike[str]) -> Zoo:
    """Loads what :func:`save_zoo` kept, into host memory.

    Args:
        path: the checkpoint's folder.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is something else.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    fields = checkpointing.load(path, kind=_KIND)
    with checkpointing.believing(path):
        return jax.tree.map(np.asarray, Zoo(**fields))


def stored_zoo(
    directory: str | os.PathLike[str],
    parts: int,
    make: Callable[[int], Zoo],
    *,
    model: str = "",
) -> Sequence[Zoo]:
    """A zoo of many parts, of which one at a time need be in memory.

    Args:
        directory: holds a checkpoint for every part. Those that are there already, from
            a call that was killed, are not made again.
        parts: how many.
        make: ``part -> zoo``, with another key for each part.
        model: the classifier's description.

    Returns:
        The parts, each read from disk whenever it is asked for: as
        :func:`fit_hypernetwork` takes them.

    Raises:
        BlockingIOError: another run is making them.
    """
    checks.check_sizes(parts=parts)
    if not callable(make):
        raise TypeError(
            f"make must be a function of the part's number; got {type(make).__name__}."
        )
    folder = atomic_write.local_path("directory", directory)
    with atomic_write.lock("directory", folder, ".parts.lock"):
        for part in range(parts):
            if not _part(folder, part).exists():
                save_zoo(_part(folder, part), make(part), model=model)
    return _Parts(folder, parts)


class _Parts(Sequence[Zoo]):
    def __init__(self, folder: Path, count: int):
        self._folder, self._count = folder, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: Any) -> Any:
        if not -self._count <= part < self._count:
            raise IndexError(f"part must be below {self._count}, got {part}.")
        return load_zoo(_part(self._folder, part % self._count))

    def __iter__(self) -> Iterator[Zoo]:
        return (self[part] for part in range(self._count))


def _part(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}"
