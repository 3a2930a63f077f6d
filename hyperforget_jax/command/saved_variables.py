"""A model's variables on disk: read in three forms, and written in the same one."""

import difflib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save

from hyperforget_jax import atomic_write, checkpointing, manifests, trees
from hyperforget_jax.base import OUTPUT_MASK, Array, Classifier, Variables
from hyperforget_jax.checks import check_classifier

__all__ = ["Saved", "fit", "read", "write"]

_SAFETENSORS = ".safetensors"


class Saved(NamedTuple):
    """What was read.

    Attributes:
        form: ``"checkpoint"`` (with a manifest), ``"orbax"`` or ``"safetensors"``.
        leaves: arrays by their path, ``"params/Dense_0/kernel"``.
    """

    form: str
    leaves: Mapping[str, Any]


def read(path: pathlib.Path) -> Saved:
    """Read a checkpoint's folder or a ``.safetensors`` file.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file of another kind, or one that cannot be read.
    """
    target = atomic_write.local_path("--variables", path)
    if (target / manifests.FILE_NAME).is_file():
        return Saved("checkpoint", trees.by_path(checkpointing.load(target)))
    if (target / "info.json").is_file():
        (written,) = list(path.glob("variables*"))[:1] or [path / "variables"]
        raise ValueError(
            f"--variables {path} is the whole of what forget wrote: name {written}."
        )
    if target.is_dir():
        return Saved("orbax", trees.by_path(checkpointing.load_orbax(target)))
    if not target.exists():
        raise FileNotFoundError(
            f"--variables {path} is not there: name the folder of an Orbax checkpoint, "
            "or a .safetensors file."
        )
    if target.suffix != _SAFETENSORS:
        raise ValueError(
            f"--variables {path} must be the folder of an Orbax checkpoint, or a "
            ".safetensors file; no pickle is loaded."
        )
    try:
        return Saved("safetensors", load_file(target))
    except Exception as error:  # Whatever a reader says, the file is to be named.
        raise ValueError(f"--variables {path} cannot be read: {error}") from error


def fit(saved: Saved, classifier: Classifier, x: Array) -> tuple[Variables, list[str]]:
    """Find the classifier's own variables in what was read.

    Args:
        saved: from :func:`read`.
        classifier: the model.
        x: inputs, ``[N, ...]``, of which shape and dtype matter.

    Returns:
        The variables, and what is left of a ``TrainState`` and the like, such as
        ``["opt_state", "step"]``.

    Raises:
        ValueError: missing or unexpected leaves, some of other shapes, or numbers that
            are not finite.
    """
    check_classifier(classifier, None, x)
    key = jax.eval_shape(lambda: jax.random.key(0))
    fresh = jax.eval_shape(classifier.init, key, x)
    wanted, held = trees.leaf_paths(fresh), dict(saved.leaves)
    mask = held.pop(OUTPUT_MASK, None)
    missing = sorted(set(wanted) - set(held))
    others = sorted(set(held) - set(wanted))
    tops = {path: path.partition("/")[0] for path in others}
    if missing or any(top in fresh for top in tops.values()):
        raise ValueError(
            f"--variables do not fit --model ({classifier.description}): missing "
            f"{_some(missing, others)}; unexpected {_some(others)}. Expected are the "
            "model's own variables, {'params': params} with 'batch_stats' if it has "
            f"any, each array named by its path: {_some(sorted(wanted))}."
        )
    leaves = [jnp.asarray(held[path]) for path in wanted]
    for path, leaf in zip(wanted, leaves, strict=True):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not jnp.isfinite(leaf).all():
            raise ValueError(
                f"--variables are not finite at {path}: the model has diverged."
            )
    variables = jax.tree.unflatten(jax.tree.structure(fresh), leaves)
    if mask is not None:
        variables[OUTPUT_MASK] = jnp.asarray(mask)
    check_classifier(classifier, variables, x, name="--variables")
    return variables, sorted(set(tops.values()))


def write(folder: pathlib.Path, form: str, variables: Variables, **texts: Any) -> None:
    """Write variables in the form that they were read in.

    Args:
        folder: where ``variables`` or ``variables.safetensors`` is to be.
        form: as in :class:`Saved`.
        variables: of one model.
        **texts: what a manifest says, as :func:`hyperforget_jax.checkpointing.save`
            takes it.
    """
    path = folder / "variables"
    if form == "checkpoint":
        checkpointing.save(path, variables, kind="variables", **texts)
    elif form == "orbax":
        checkpointing.save_orbax(path, variables)
    else:
        path = path.with_suffix(_SAFETENSORS)
        leaves = trees.by_path(variables)
        # Safetensors writes the bytes as they lie.
        arrays = {name: np.array(leaf, order="C") for name, leaf in leaves.items()}
        with atomic_write.replace_file(path, "wb") as file:
            file.write(save(arrays))


def _some(paths: list[str], given: Sequence[str] = ()) -> str:
    """List a few paths, each with the given one that may be meant."""
    said = []
    for path in paths[:3]:
        near = difflib.get_close_matches(path, given, 1)
        said.append(f"{path} (is it {near[0]}?)" if near else path)
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(said) + more or "none"
