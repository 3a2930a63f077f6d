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
    "program_digest",
    "save_chunk",
    "stored_recipe",
]

_KIND = "population-chunk"


class Chunk(NamedTuple):
    """A chunk of a population, some of the way through its training.

    Attributes:
        state: where its members stand, leaves ``[chunk_size, ...]``.
        kept: the variables after each checkpoint step so far.
        loss: mean loss over the last segment, ``[chunk_size]``.
    """

    state: descent.DescentState
    kept: tuple[Variables, ...]
    loss: Array


def program_digest(function, *shapes) -> str:
    """A digest of everything a function computes, optimiser and constants included."""
    program = str(jax.make_jaxpr(function)(*shapes))
    # Addresses of functions differ between two runs of one program.
    return checkpointing.config_hash(re.sub("0x[0-9a-f]+", "", program))


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
                f"directory={str(directory)!r} holds a population begun with "
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
    directory: str | Path | None,
    index: int,
    fresh: Chunk,
    checkpoint_steps: tuple[int, ...],
) -> tuple[int, Chunk]:
    """How far a chunk came, and the chunk; zero and ``fresh`` if it never began."""
    if directory is None or not _path(directory, index).exists():
        return 0, fresh
    path = _path(directory, index)
    step = checkpointing.read_manifest(path).config["step"]
    kept = (fresh.state.variables,) * sum(s <= step for s in checkpoint_steps)
    like = fresh._replace(kept=kept)
    return step, checkpointing.load(path, kind=_KIND, like=like)


def _path(directory: str | Path, index: int) -> Path:
    return Path(directory) / f"chunk-{index:05d}"
