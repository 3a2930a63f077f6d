"""What long runs keep on disk, and how they go on from there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hyperforget_jax import checkpointing
from hyperforget_jax.base import Array

__all__ = [
    "check_recipe",
    "digests_of",
    "key_of",
    "load",
    "numerics",
    "program_digest",
    "recipe_of",
    "save",
    "stored_recipe",
]


def program_digest(function: Callable[..., Any], *shapes: Any) -> str:
    """Compute a digest of everything a function computes.

    Of the program as it is given to the compiler: with all constants in full, of inner
    functions too, and with draws spelt out as the configuration has them. It is the
    same in every process.
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


def digests_of(**trees: Any) -> dict[str, str | None]:
    """Compute the digest of every named tree, for a recipe; None stays None."""
    return {
        name: None if tree is None else checkpointing.digest(tree)
        for name, tree in trees.items()
    }


def stored_recipe(directory: Path | None, kind: str) -> dict[str, Any]:
    """Read how the population in ``directory`` was started; empty if there is none."""
    for path in sorted(directory.glob("chunk-*")) if directory else ():
        if re.fullmatch(r"chunk-\d{5}", path.name):
            return recipe_of(path, kind)[0]
    return {}


def recipe_of(path: str | Path, kind: str) -> tuple[dict[str, Any], int]:
    """Read how the run kept in ``path`` was started, and how many steps it took."""
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
    """Raise ValueError if what was started by ``stored`` is to go on by ``recipe``."""
    remedy = "choose another directory, or delete it to start anew"
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
                f"directory={str(directory)!r} holds a run started with "
                f"{name}={value}, not {recipe[name]}: {remedy}."
            )


def save(
    path: Path, tree: Any, *, kind: str, recipe: dict[str, Any], step: int
) -> None:
    """Keep what a run has come to, atomically in the place of its earlier self."""
    checkpointing.save(
        path,
        tree,
        kind=kind,
        model=recipe.get("classifier", ""),
        config={"recipe": recipe, "step": step},
        overwrite=True,
    )


def load(
    path: Path, like: Any, *, kind: str, recipe: dict[str, Any]
) -> tuple[int, Any]:
    """Read how many steps a run of this recipe had taken, and what it had come to."""
    stored, step = recipe_of(path, kind)
    check_recipe(path.parent, stored, recipe)
    return step, checkpointing.load(path, kind=kind, like=like)
