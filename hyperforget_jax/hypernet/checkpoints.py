"""Hypernetworks and zoos on disk."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import atomic_write, checkpointing, checks
from hyperforget_jax.base import Classifier
from hyperforget_jax.hypernet.config import HypernetConfig
from hyperforget_jax.hypernet.hypernetwork import HypernetParams, Hypernetwork, build
from hyperforget_jax.hypernet.zoo import Zoo

__all__ = [
    "load_hypernetwork",
    "load_zoo",
    "save_hypernetwork",
    "save_zoo",
    "stored_zoo",
]

_HYPERNETWORK, _ZOO = "hypernetwork", "zoo"


def save_hypernetwork(
    path: str | os.PathLike[str],
    hypernetwork: Hypernetwork,
    params: HypernetParams,
    *,
    overwrite: bool = False,
) -> None:
    """Save a trained hypernetwork as a checkpoint.

    Args:
        path: the checkpoint's folder.
        hypernetwork: from :func:`build`.
        params: its parameters, from :func:`fit_hypernetwork`.
        overwrite: whether to replace an older one.

    Raises:
        FileExistsError: there is something already.
    """
    checks.check_is(
        Hypernetwork, "what hypernet.build gives", hypernetwork=hypernetwork
    )
    checks.check_is(HypernetParams, "what fit_hypernetwork gives", params=params)
    checkpointing.save(
        path,
        params,
        kind=_HYPERNETWORK,
        model=hypernetwork.classifier,
        config={
            "architecture": dataclasses.asdict(hypernetwork.config),
            "input_shape": hypernetwork.input_shape,
            "masks": params.profiles.masks.shape[0],
        },
        overwrite=overwrite,
    )


def load_hypernetwork(
    path: str | os.PathLike[str], classifier: Classifier
) -> tuple[Hypernetwork, HypernetParams]:
    """Load what :func:`save_hypernetwork` saved for this classifier.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is something else, for another classifier, or of another version
            of this library.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    checks.check_is_classifier(classifier)
    manifest = checkpointing.read_manifest(path)
    place = os.fspath(path)
    if manifest.kind != _HYPERNETWORK:
        raise ValueError(f"{place} holds {manifest.kind!r}, not {_HYPERNETWORK!r}.")
    if manifest.model != classifier.description:
        raise ValueError(
            f"{place} belongs to the model {manifest.model!r}, and not to the "
            f"classifier {classifier.description!r}."
        )
    with checkpointing.believing(path):
        stored = dict(manifest.config)
        # Versions before this one called it a recipe.
        architecture = dict(stored.get("architecture") or stored["recipe"])
        known = {field.name for field in dataclasses.fields(HypernetConfig)}
        if "recipe" in stored or set(architecture) != known:
            raise ValueError(
                f"{place} was saved by another version of this library: its "
                f"architecture has {sorted(architecture)}, hypernet.HypernetConfig "
                f"{sorted(known)}. Fit it anew."
            )
        shape, masks = map(int, stored["input_shape"]), int(stored["masks"])
        config = HypernetConfig(**architecture)
        one = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    hypernetwork = build(classifier, one, config)
    like = jax.eval_shape(lambda: hypernetwork.init(jax.random.key(0), masks))
    return hypernetwork, checkpointing.load(path, kind=_HYPERNETWORK, like=like)


def save_zoo(path: str | os.PathLike[str], zoo: Zoo, *, model: str = "") -> None:
    """Save a zoo as a checkpoint, with the classifier's description as its model.

    Raises:
        FileExistsError: there is something already.
    """
    checks.check_is(Zoo, "a hypernet.Zoo", zoo=zoo)
    checkpointing.save(path, zoo, kind=_ZOO, model=model)


def load_zoo(path: str | os.PathLike[str]) -> Zoo:
    """Load what :func:`save_zoo` saved, into host memory.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is something else.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    fields = checkpointing.load(path, kind=_ZOO)
    with checkpointing.believing(path):
        return jax.tree.map(np.asarray, Zoo(**fields))


def stored_zoo(
    directory: str | os.PathLike[str],
    parts: int,
    make: Callable[[int], Zoo],
    *,
    model: str = "",
) -> Sequence[Zoo]:
    """Make a zoo of many parts on disk, of which one at a time need be in memory.

    Args:
        directory: holds a checkpoint for every part. Those that are there already, from
            a call that was killed, are not made again.
        parts: how many.
        make: ``part -> zoo``, with another key for each part.
        model: the classifier's description.

    Returns:
        The parts, each read from disk when needed: as :func:`fit_hypernetwork` takes
        them.

    Raises:
        BlockingIOError: another run is making them.
    """
    checks.check_sizes(parts=parts)
    checks.check_is_function("a function of the part's number", make=make)
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


def _part(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}"
