"""Pretrained models on disk: one safetensors file, and a manifest with its digest.

Those of the digits are part of the package. Those of other data sets are made by
``experiments/pretrained.py``, and lie in the cache.
"""

import dataclasses
import functools
import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from hyperforget_jax import atomic_write, digests, hypernet, manifests, models, trees
from hyperforget_jax.base import Array, Classifier, Variables
from hyperforget_jax.data.cache import cache_folder

__all__ = ["Pretrained", "load", "save"]

_ARRAYS, _SCHEMA = "arrays.safetensors", 1
_NETWORKS = {each.__name__: each for each in (models.MLP, models.PooledMLP)}


class Pretrained(NamedTuple):
    """Models of one data set, of S training seeds, and how they were made.

    Attributes:
        dataset: its name, for ``hf.data.load``.
        classifier: a perceptron.
        originals: its variables after training on everything, ``[S, ...]``.
        retrained: after training without each class in turn, from seeds of their own,
            ``[C, S, ...]``.
        hypernetwork: for this classifier.
        hypernet_params: its parameters. No original is among the models that it was
            trained on.
        manifest: command, commit, seeds, versions and accuracies, as JSON holds them.
        train_ids: ids of the training examples that all were trained on, int32,
            ``[N]``; None for the whole split.
    """

    dataset: str
    classifier: Classifier
    originals: Variables
    retrained: Variables
    hypernetwork: hypernet.Hypernetwork
    hypernet_params: hypernet.HypernetParams
    manifest: Mapping[str, Any]
    train_ids: Array | None = None


def load(
    dataset: str = "digits", *, directory: str | os.PathLike[str] | None = None
) -> Pretrained:
    """Load models that are trained already.

    Example::

        made = hf.pretrained.load("digits")
        unlearner = hf.dihyfo(made.classifier, made.hypernetwork, made.hypernet_params)

    Args:
        dataset: ``"digits"``, which is part of the package, or what
            ``experiments/pretrained.py`` has put into the cache.
        directory: another folder that :func:`save` made.

    Raises:
        FileNotFoundError: there are none; the message has the command that makes
            those of MNIST, or the names that there are.
        CorruptCheckpointError: files are missing, truncated or altered.
        ValueError: models of another data set.
    """
    folder = _folder(dataset) if directory is None else pathlib.Path(directory)
    try:
        manifest = json.loads((folder / manifests.FILE_NAME).read_text("utf-8"))
        arrays = safetensors.numpy.load((folder / _ARRAYS).read_bytes())
        if digests.digest(arrays) != manifest["digest"]:
            raise ValueError("the arrays are not those that were saved")
        found = _restore(manifest, arrays)
    except Exception as error:  # Of a damaged file readers say all sorts.
        raise manifests.corrupt(pathlib.Path(str(folder)), str(error)) from error
    if found.dataset != dataset:
        raise ValueError(f"{folder} has models of {found.dataset!r}, not {dataset!r}.")
    return found


def save(
    path: str | os.PathLike[str],
    dataset: str,
    network: models.MLP,
    arrays: Mapping[str, Any],
    hypernetwork: hypernet.Hypernetwork,
    record: Mapping[str, Any],
) -> None:
    """Save pretrained models, in a folder that is not there yet, or is empty.

    Args:
        path: the folder.
        dataset: its name.
        network: the perceptron.
        arrays: ``originals``, ``retrained`` and ``hypernet_params``, as in
            :class:`Pretrained`, and ``train_ids`` unless they are None.
        hypernetwork: as there.
        record: what the manifest is to say besides, as JSON holds it.

    Raises:
        FileExistsError: something is there, and is kept.
    """
    leaves = {
        name: np.array(leaf, order="C") for name, leaf in trees.by_path(arrays).items()
    }
    manifest = {
        "schema": _SCHEMA,
        "dataset": dataset,
        "network": type(network).__name__,
        "features": list(network.features),
        "input_shape": list(hypernetwork.input_shape),
        "masks": int(arrays["hypernet_params"].profiles.masks.shape[0]),
        "hypernetwork": dataclasses.asdict(hypernetwork.config),
        "digest": digests.digest(leaves),
        **record,
    }
    with atomic_write.new_folder("path", path) as folder:
        (folder / _ARRAYS).write_bytes(safetensors.numpy.save(leaves))
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
        (folder / manifests.FILE_NAME).write_text(text, encoding="utf-8")


def _folder(dataset: str) -> Traversable:
    """Find the folder of a data set, in the package or in the cache."""
    cache = cache_folder() / "pretrained"
    places: list[Traversable] = [
        importlib.resources.files("hyperforget_jax.pretrained"),
        cache,
    ]
    for place in places:
        found = place.iterdir() if place.is_dir() else ()
        for each in found:
            if each.name == dataset and (each / manifests.FILE_NAME).is_file():
                return each
    if dataset != "mnist":
        raise FileNotFoundError(
            "There are pretrained models of 'digits' and of 'mnist', not of "
            f"{dataset!r}."
        )
    raise FileNotFoundError(
        f"There are no pretrained models of 'mnist' in {cache}. They are made, in a "
        "clone of the repository, by: python experiments/pretrained.py --preset mnist"
    )


def _restore(manifest: Mapping[str, Any], arrays: Mapping[str, Any]) -> Pretrained:
    if manifest["schema"] != _SCHEMA:
        raise ValueError(f"schema {manifest['schema']} is of another version")
    network = _NETWORKS[manifest.get("network", "MLP")]  # Older ones were all MLP.
    classifier = models.from_linen(network(tuple(manifest["features"])))
    one = jax.ShapeDtypeStruct((1, *manifest["input_shape"]), jnp.float32)
    config = hypernet.HypernetConfig(**manifest["hypernetwork"])
    hypernetwork = hypernet.build(classifier, one, config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    fresh = jax.eval_shape(classifier.init, key, one)
    drawn = functools.partial(hypernetwork.init, num_masks=manifest["masks"])
    like = {
        "originals": fresh,
        "retrained": fresh,
        "hypernet_params": jax.eval_shape(drawn, key),
        **{name: arrays[name] for name in ("train_ids",) if name in arrays},
    }
    leaves = [jnp.asarray(arrays[path]) for path in trees.leaf_paths(like)]
    whole = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Pretrained(
        manifest["dataset"],
        classifier,
        hypernetwork=hypernetwork,
        manifest=manifest,
        **whole,
    )
