"""Decoded arrays on disk, so that a data set is decoded once and not every run."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from hyperforget_jax import atomic_write
from hyperforget_jax.user_warnings import warn_user

__all__ = ["cache_folder", "cached", "write_arrays"]


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Locate the folder in which decoded arrays are kept.

    By default that named by the environment variable ``HYPERFORGET_CACHE_DIR``, else
    ``hyperforget_jax`` in the user's cache folder (``XDG_CACHE_HOME``, ``~/.cache``).
    """
    if cache_dir is None:
        cache_dir = os.environ.get("HYPERFORGET_CACHE_DIR") or pathlib.Path(
            os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hyperforget_jax"
        )
    return atomic_write.local_path("cache_dir", cache_dir)


def cached(
    path: pathlib.Path,
    names: Sequence[str],
    make: Callable[[], tuple[np.ndarray, ...]],
    check: Callable[..., None] = lambda *arrays: None,
) -> tuple[np.ndarray, ...]:
    """Read arrays from a file, or make them and put them there.

    A file that is truncated, corrupt or of other content is made again, with a
    warning; one that cannot be written is made every time, which costs time and
    nothing else. Pickled objects are not read.

    Args:
        path: the ``.npz`` file.
        names: what the arrays are called in the file.
        make: makes the arrays, in the order of ``names``.
        check: raises ValueError for arrays that are not what ``make`` makes.
    """
    if path.exists():
        try:
            # Reading to the end of a member checks its CRC: flipped bits raise here.
            with np.load(path, allow_pickle=False) as file:
                arrays = tuple(file[name] for name in names)
            for name, array in zip(names, arrays, strict=True):
                if not isinstance(array, np.ndarray):
                    raise ValueError(f"{name} is no array")
            check(*arrays)
            return arrays
        except Exception as error:  # Of a crafted file NumPy raises all sorts.
            warn_user(f"{path} is damaged ({error}) and is made again.")
    arrays = make()
    try:
        write_arrays(path, dict(zip(names, arrays, strict=True)))
    except OSError as error:
        warn_user(f"{path} cannot be written ({error}): the next load decodes again.")
    return arrays


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an ``.npz`` file that is either whole or not there."""
    with atomic_write.replace_file(path, "wb") as file:
        # `**arrays` would take an array named "file" for the file.
        np.savez(file, **arrays)  # pyrefly: ignore[bad-argument-type]
