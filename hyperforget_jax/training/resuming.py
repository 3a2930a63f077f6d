"""What a population's training keeps on disk, and how it goes on from there."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hyperforget_jax import checkpointing
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.training import descent

__all__ = [
    "Chunk",
    "check_recipe",
    "load_chunk",
    "load_kept",
    "program_digest",
    "save_chunk",
    "save_kept",
    "stored_recipe",
]

_KIND = "population-chunk"
_KIND_KEPT = "population-checkpoint"


class Chunk(NamedTuple):
    """A chunk of a population, some of the way through its training.

    Attributes:
        state: where its members stand, leaves ``[chunk_size, ...]``.
        loss: mean loss over the last segment, ``[chunk_size]``.
    """

    state: descent.DescentState
    loss: Array


def program_digest(function, *shapes) -> str:
    """A digest of everything a function computes, optimiser and constants included."""
    program = jax.make_jaxpr(function)(*shapes)
    # Addresses of functions differ between two runs of one program.
    text = re.sub("0x[0-9a-f]+", "", str(program.jaxpr))
    return checkpointing.config_hash([text, checkpointing.digest(program.consts)])


def stored_recipe(directory: str | Path | None) -> dict[str, Any]:
    """How the run in ``directory`` was begun; empty if there is none."""
    if directory is None or not _path(directory, 0).exists():
        return {}
    return checkpointing.read_manifest(_path(directory, 0)).config["recipe"]


def check_recipe(
    directory: str | Path | None, stored: dict[str, Any], recipe: dict[str, Any]
) -> None:
    """Raises ValueError if a run is to go on that was begun in another way."""
    for name, value in stored.items():
        if recipe[name] != value:
            raise ValueError(
                f"directory={str(directory)!r} holds a run begun with "
                f"{name}={value}, not {recipe[name]}: choose another directory, or "
                "delete it to begin anew."
            )


def save_chunk(
    directory: str | Path | None,
    index: int,
    chunk: Chunk,
    step: int,
    recipe: dict[str, Any],
) -> None:
    """Keeps a chunk, atomically in the place of its earlier self."""
    if directory is not None:
        checkpointing.save(
            _path(directory, index),
            chunk,
            kind=_KIND,
            model=recipe["classifier"],
            config={"recipe": recipe, "step": step},
            overwrite=True,
        )


def load_chunk(
    directory: str | Path | None, index: int, fresh: Chunk
) -> tuple[int, Chunk]:
    """How far a chunk came, and the chunk; zero and ``fresh`` if it never began."""
    if directory is None or not _path(directory, index).exists():
        return 0, fresh
    path = _path(directory, index)
    step = checkpointing.read_manifest(path).config["step"]
    return step, checkpointing.load(path, kind=_KIND, like=fresh)


def save_kept(
    directory: str | Path | None,
    index: int,
    variables: Variables,
    step: int,
    recipe: dict[str, Any],
) -> None:
    """Keeps a chunk's variables at a checkpoint step, once and for all."""
    if directory is not None:
        checkpointing.save(
            _path(directory, index, step),
            variables,
            kind=_KIND_KEPT,
            model=recipe["classifier"],
            config={"recipe": recipe, "step": step},
            overwrite=True,
        )


def load_kept(directory: str | Path, index: int, like: Variables, step: int) -> Any:
    """The variables that :func:`save_kept` kept."""
    return checkpointing.load(_path(directory, index, step), kind=_KIND_KEPT, like=like)


def _path(directory: str | Path, index: int, step: int | None = None) -> Path:
    name = f"chunk-{index:05d}" + ("" if step is None else f"-step-{step:09d}")
    return Path(directory) / name
