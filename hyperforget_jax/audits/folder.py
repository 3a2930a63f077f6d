"""A folder of logits, written by any framework, as an audit reads it."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from hyperforget_jax import atomic_write

__all__ = ["Claim", "load_folder", "read_arrays", "save_folder"]


class Claim(NamedTuple):
    """What :func:`hyperforget_jax.audits.judge` takes: ``judge(*claim)``.

    Attributes:
        logits: on the examples to be forgotten, ``[models, M, C]``.
        labels: theirs, ``[M]``.
        kinds: what each model is.
    """

    logits: np.ndarray
    labels: np.ndarray
    kinds: tuple[str, ...]


def load_folder(path: str | os.PathLike) -> Claim:
    """Read the logits of a claim of forgetting.

    The folder holds ``audit.json``, ``{"models": ["original", "retrained",
    "unlearned", ...]}``, one word a model; and the arrays ``logits``, ``[K, M, C]``,
    and ``labels``, ``[M]``, of the examples that were to be forgotten: as ``.npy``
    files of these names, in one ``audit.npz`` or in one ``audit.safetensors``. No
    pickle is loaded.

    Raises:
        FileNotFoundError: no such folder or file, with what is wanted.
        NotADirectoryError: the path of a file.
        ValueError: a file that cannot be read, with its name; or arrays in more than
            one form.
    """
    folder = pathlib.Path(path)
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file, and must be a folder.")
    described = folder / "audit.json"
    if not described.is_file():
        raise FileNotFoundError(
            f'{described} is not there: it says what each model is, {{"models": '
            '["retrained", "unlearned", ...]}.'
        )
    try:
        kinds = json.loads(described.read_text(encoding="utf-8-sig"))["models"]
        if not isinstance(kinds, list):
            raise TypeError("models is no list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "it has no models" if isinstance(error, KeyError) else error
        raise ValueError(
            f'{described} must be {{"models": ["retrained", ...]}}: {reason}.'
        ) from error
    arrays = _arrays(folder)
    return Claim(arrays["logits"], arrays["labels"], tuple(map(str, kinds)))


def save_folder(
    path: str | os.PathLike, logits: np.ndarray, labels: np.ndarray, kinds: Any
) -> None:
    """Write what :func:`load_folder` reads, each file whole or not at all.

    Args:
        path: the folder, made if need be.
        logits: ``[K, M, C]``.
        labels: ``[M]``.
        kinds: one word a model.
    """
    folder = atomic_write.local_path("path", path)
    for name, array in (("logits", logits), ("labels", labels)):
        with atomic_write.replace_file(folder / f"{name}.npy", "wb") as file:
            np.save(file, np.asarray(array), allow_pickle=False)
    with atomic_write.replace_file(folder / "audit.json") as file:
        json.dump({"models": list(kinds)}, file)


def _arrays(folder: pathlib.Path) -> dict[str, Any]:
    names = ("logits", "labels")
    forms = [
        [folder / f"{name}.npy" for name in names],
        [folder / "audit.npz"],
        [folder / "audit.safetensors"],
    ]
    there = [files for files in forms if all(file.is_file() for file in files)]
    if not there:
        held = sorted(each.name for each in folder.iterdir())
        raise FileNotFoundError(
            f"{folder} must hold logits.npy and labels.npy, or audit.npz, or "
            f"audit.safetensors; it holds {held}."
        )
    if len(there) > 1:
        also = " and ".join(files[0].name for files in there)
        raise ValueError(f"{folder} holds {also}: leave the one that is to be judged.")
    found: dict[str, Any] = {}
    for file in there[0]:
        held = read_arrays(file)
        found |= held if isinstance(held, dict) else {file.stem: held}
    for name in names:
        if name not in found:
            raise ValueError(
                f"The arrays in {folder} lack {name!r}; they are {sorted(found)}."
            )
    return found


def read_arrays(
    path: str | os.PathLike, name: str | None = None
) -> np.ndarray | dict[str, np.ndarray]:
    """Read an array, which stays on disk until it is looked at, or several by name."""
    try:
        if pathlib.Path(path).suffix == ".safetensors":
            return load_file(path)
        held = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(held, np.ndarray):
            return held
        with held:
            return dict(held)
    except Exception as error:  # Whatever a reader says, the file is to be named.
        reason: Any = error
        if "pickle" in str(error) or "object" in str(error).lower():
            reason = "it holds no array of numbers, and no pickle is loaded"
        raise ValueError(f"{name or path} cannot be read: {reason}.") from error
