"""Files of what is kept when the data are thrown away: Gram matrices, and whose."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from hyperforget_jax import checkpointing, checks
from hyperforget_jax.base import Classifier, Variables
from hyperforget_jax.subspace.grams import Grams
from hyperforget_jax.subspace.included import Included
from hyperforget_jax.subspace.margins import Margins

__all__ = ["Store", "load_store", "save_store"]

_KIND = "gram-store"


class Store(NamedTuple):
    """Gram matrices of the data that are left.

    Attributes:
        grams: of every layer's inputs.
        included: the examples that are in them.
        margins: the model's, when the matrices were measured; rows in the order of
            ``included``.
    """

    grams: Grams
    included: Included
    margins: Margins


def save_store(
    path: str | os.PathLike[str],
    store: Store,
    classifier: Classifier,
    variables: Variables,
    *,
    preprocessing: Mapping[str, Any],
    dataset: str = "",
    overwrite: bool = False,
) -> checkpointing.Manifest:
    """Save Gram matrices, whole or not at all, with all that they are true of.

    What is summed over the data to be forgotten remembers them: after a request,
    overwrite the store by the reduced one, and delete copies of it.

    Args:
        path: the checkpoint's folder.
        store: the Gram matrices and their examples' ids.
        classifier: the model that they were measured in.
        variables: its variables.
        preprocessing: what was done to the data before, such as ``{"normalisation":
            "cifar10", "augment": "crop_and_flip", "seed": 0, "epochs": 2}``: anything
            that JSON can hold. It must be the same for data that are taken out later.
        dataset: the data set's name.
        overwrite: whether to replace an older store.

    Raises:
        FileExistsError, TypeError, ValueError: as for
            :func:`hyperforget_jax.checkpointing.save`.
    """
    checks.check_is(Store, "the Gram store, such as state.store", store=store)
    checks.check_is(
        Mapping, "a mapping of names to values", preprocessing=preprocessing
    )
    return checkpointing.save(
        path,
        store,
        kind=_KIND,
        model=classifier.description,
        dataset=dataset,
        config={
            "preprocessing": dict(preprocessing),
            "variables": checkpointing.digest(variables),
        },
        overwrite=overwrite,
    )


def load_store(
    path: str | os.PathLike[str],
    classifier: Classifier,
    variables: Variables,
    *,
    preprocessing: Mapping[str, Any],
) -> Store:
    """Load what :func:`save_store` saved, for the very model it was saved for.

    Args:
        path: the checkpoint's folder.
        classifier: the model.
        variables: its variables.
        preprocessing: as given to :func:`save_store`.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it belongs to another model, to other variables or to other
            preprocessing, or is no Gram store.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    checks.check_is_classifier(classifier)
    checks.check_is(Mapping, "a dictionary of variables", variables=variables)
    checks.check_is(
        Mapping, "a mapping of names to values", preprocessing=preprocessing
    )
    config = checkpointing.read_manifest(path).config or {}
    loaded = checkpointing.load(path, kind=_KIND, model=classifier.description)
    digest = checkpointing.digest(variables)
    with checkpointing.believing(path):
        saved, prepared = config["variables"], config["preprocessing"]
        store = Store(
            Grams(**loaded["grams"]),
            Included(**loaded["included"]),
            Margins(**loaded["margins"]),
        )
    if saved != digest:
        raise ValueError(
            f"{path} holds the Gram matrices of a model with other variables (digest "
            f"{saved:.12}, given {digest:.12}): load it for the variables that it was "
            "saved with."
        )
    given = dict(preprocessing)
    if checkpointing.config_hash(prepared) != checkpointing.config_hash(given):
        raise ValueError(
            f"{path} is of data prepared by {prepared}, not by {given}: what is taken "
            "out must be prepared as what was added."
        )
    return store
