"""What a population's training keeps on disk, and how it goes on from there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from hyperforget_jax import checkpointing
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.training import descent

__all__ = [
    "Chunk",
    "check_recipe",
    "key_of",
    "load_chunk",
    "load_kept",
    "numerics",
    "program_digest",
    "recipe_of",
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


def program_digest(function: Callable[..., Any], *shapes: Any) -> str:
    """Compute a digest of everything a function computes.

    Of the program as it is given to the compiler: with all constants in full, of inner
    functions too, and with draws spelt out as the configuration has them. It is the
    same in every process.

    Args:
        function: pure and jittable.
        *shapes: its arguments, arrays or ``jax.ShapeDtypeStruct``.
    """
    return checkpointing.config_hash(jax.jit(function).lower(*shapes).as_text())


def numerics() -> dict[str, Any]:
    """Read the settings of JAX that numbers depend on."""
    return {
        name: getattr(jax.config, f"jax_{name}")
        for name in ("enable_x64", "threefry_partitionable", "default_matmul_precision")
    }


def key_of(key: Array) -> dict[str, Any]:
    """Describe a key, for a recipe."""
    return {
        "impl": str(jax.random.key_impl(key)),
        "data": np.asarray(jax.random.key_data(key)).tolist(),
    }


def stored_recipe(directory: str | Path | None) -> dict[str, Any]:
    """Read how the run in ``directory`` was begun; empty if there is none."""
    if directory is None:
        return {}
    for path in sorted(Path(directory).glob("chunk-*")):
        if re.fullmatch(r"chunk-\d{5}", path.name):
            return recipe_of(path, _KIND)[0]
    return {}


def recipe_of(path: str | Path, kind: str) -> tuple[dict[str, Any], int]:
    """Read how what is kept in ``path`` was begun, and how many steps it had taken.

    Raises:
        ValueError: something else is kept there.
    """
    manifest = checkpointing.read_manifest(path)
    kept = manifest.config if isinstance(manifest.config, dict) else {}
    recipe, step = kept.get("recipe"), kept.get("step")
    if manifest.kind != kind or not (
        isinstance(recipe, dict) and isinstance(step, int)
    ):
        raise ValueError(
            f"{str(path)!r} holds {manifest.kind!r}, not {kind!r} of a run that could "
            "be gone on with: choose another directory."
        )
    return recipe, step


def check_recipe(
    directory: str | Path | None, stored: dict[str, Any], recipe: dict[str, Any]
) -> None:
    """Raise ValueError if a run is to go on that was begun in another way.

    Args:
        directory: where it is kept.
        stored: how it was begun; empty if there is none.
        recipe: how it would be begun now.
    """
    remedy = "choose another directory, or delete it to begin anew"
    if stored and stored.keys() != recipe.keys():
        raise ValueError(
            f"directory={str(directory)!r} holds a run of another version of "
            "hyperforget_jax: it did not record "
            f"{sorted(recipe.keys() - stored.keys())}, and recorded "
            f"{sorted(stored.keys() - recipe.keys())} beside what is recorded now, so "
            f"that nobody can tell whether this is its continuation: {remedy}."
        )
    for name, value in stored.items():
        if recipe[name] != value:
            raise ValueError(
                f"directory={str(directory)!r} holds a run begun with "
                f"{name}={value}, not {recipe[name]}: {remedy}."
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
    directory: str | Path | None, index: int, fresh: Chunk, recipe: dict[str, Any]
) -> tuple[int, Chunk]:
    """How far a chunk came, and the chunk; zero and ``fresh`` if it never began.

    Raises:
        ValueError: it was begun in another way.
    """
    if directory is None or not _path(directory, index).exists():
        return 0, fresh
    path = _path(directory, index)
    stored, step = recipe_of(path, _KIND)
    check_recipe(directory, stored, recipe)
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


def load_kept(
    directory: str | Path,
    index: int,
    like: Variables,
    step: int,
    recipe: dict[str, Any],
) -> Any:
    """The variables that :func:`save_kept` kept.

    Raises:
        ValueError: they are those of a run that was begun in another way.
    """
    path = _path(directory, index, step)
    check_recipe(directory, recipe_of(path, _KIND_KEPT)[0], recipe)
    return checkpointing.load(path, kind=_KIND_KEPT, like=like)


def _path(directory: str | Path, index: int, step: int | None = None) -> Path:
    name = f"chunk-{index:05d}" + ("" if step is None else f"-step-{step:09d}")
    return Path(directory) / name
