"""What is kept when data are thrown away: Gram matrices, whose, and their margins."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checkpointing, checks, losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.forgotten import find
from hyperforget_jax.subspace.grams import Grams

__all__ = [
    "Included",
    "Margins",
    "Store",
    "check_included",
    "include",
    "load_store",
    "margins_of",
    "remove",
    "save_store",
]

# Fine enough for the few hard examples, on which accuracies turn.
_LEVELS = 1025
# Below any margin: nothing held out is predicted right.
_NEVER = -1e4
# Above any margin but infinite ones.
_SURE = 1e30


class Margins(NamedTuple):
    """Margins, ``log p_y - log(1 - p_y)``, of one model.

    Attributes:
        rows: of each training example, float32, ``[N]``.
        seen: of training examples, at equally spaced quantiles, ascending, ``[1025]``.
        unseen: of held-out examples, likewise; far below zero if there are none, so
            that no label keeps any probability.
        accuracy: on the held-out examples, float32, ``[]``; zero if there are none.
    """

    rows: Array
    seen: Array
    unseen: Array
    accuracy: Array


def margins_of(
    logits: Array,
    y: Array,
    weight: Array,
    held_out: tuple[Array, Array, Array] | None = None,
) -> Margins:
    """Compute margins and their quantiles. A row counts or does not, but not twice.

    Args:
        logits: of training examples, ``[N, C]``.
        y: labels, ``[N]``.
        weight: which of them count, ``[N]``.
        held_out: the same three of held-out examples, or None.
    """
    seen = losses.margin(logits.astype(jnp.float32), y)
    rows = jnp.where(weight > 0, seen, 0)
    unseen = jnp.full(_LEVELS, _NEVER, jnp.float32)
    accuracy = jnp.zeros((), jnp.float32)
    if held_out is not None:
        others, labels, counts = held_out
        there = jnp.any(counts > 0)
        found = _quantiles(losses.margin(others.astype(jnp.float32), labels), counts)
        unseen = jnp.where(there, found, unseen)
        right = (jnp.argmax(others, axis=-1) == labels).astype(jnp.float32)
        accuracy = losses.weighted_mean(right, counts > 0)
    return Margins(rows, _quantiles(seen, weight), unseen, accuracy)


def has_held_out(margins: Margins) -> Array:
    """Tell whether there were held-out examples, bool, ``[]``."""
    return margins.unseen[-1] > _NEVER


def _quantiles(values: Array, weight: Array) -> Array:
    """``[1025]``, of the rows that count."""
    count = jnp.sum(weight > 0)
    # Finite, since nothing lies between infinities.
    values = jnp.clip(values.astype(jnp.float32), -_SURE, _SURE)
    ascending = jnp.sort(jnp.where(weight > 0, values, jnp.inf))
    row = jnp.arange(values.shape[0])
    # Rows that do not count repeat the largest value, behind the last place.
    among = jnp.where(row < count, ascending, ascending[count - 1])
    places = row / jnp.maximum(count - 1, 1)
    return jnp.interp(jnp.linspace(0, 1, _LEVELS), places, among)


class Included(NamedTuple):
    """The ids that were summed, and how often each still is.

    Attributes:
        id: int32, ``[N]``, ascending.
        weight: int32, ``[N]``; zero for what was taken out, and for padding.
    """

    id: Array
    weight: Array


def include(data: Examples) -> tuple[Included, Array]:
    """List the examples of a sum, and the rows of ``data`` in that order, ``[N]``.

    Raises:
        ValueError: two rows of one id that both count, where values can be seen.
    """
    if checks.is_concrete(data.id, data.weight):
        ids = np.asarray(data.id)[np.asarray(data.weight) > 0]
        unique, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"data.id must name every example once, got id {unique[counts > 1][0]} "
                f"in {counts.max()} rows: an example that counts twice has weight 2."
            )
    # Among rows of one id, the one that counts comes first: padding shares id -1.
    order = jnp.lexsort((-data.weight, data.id))
    return Included(data.id[order], data.weight[order]), order


def remove(included: Included, examples: Examples) -> tuple[Included, Examples, Array]:
    """Take examples ``[F]`` out, each as often as it is still in.

    Returns:
        What is left; the same examples, those that are not in (any more, or that often)
        weightless; and how many those are, int32, ``[]``.
    """
    place, known = find(included.id, examples.id)
    asked = jnp.where(known, examples.weight, 0)
    total = jnp.zeros_like(included.weight).at[place].add(asked)
    held = known & (total[place] <= included.weight[place])
    weight = jnp.where(held, examples.weight, 0)
    refused = jnp.sum((examples.weight > 0) & ~held, dtype=jnp.int32)
    left = included.weight.at[place].add(-weight)
    return Included(included.id, left), examples._replace(weight=weight), refused


def check_included(included: Included, examples: Examples) -> None:
    """Raise unless examples can be taken out; under a trace it cannot tell.

    Of a request that names some that are out already the others can be: those that
    were are weighed zero, and counted.

    Raises:
        ValueError: examples that were never added, or that were all taken out before.
    """
    if not checks.is_concrete(included, examples.id, examples.weight):
        return
    _, taken, refused = jax.device_get(remove(included, examples))
    if not refused:
        return
    wrong = (np.asarray(examples.weight) > 0) & (taken.weight == 0)
    ids = np.asarray(examples.id)[wrong]
    never = ids[~np.isin(ids, np.asarray(included.id))]
    if not never.size and taken.weight.any():
        return
    shown = ", ".join(map(str, (never if never.size else ids)[:5]))
    why = "were never added" if never.size else "were taken out before"
    raise ValueError(
        f"{refused} of the examples to forget are not in the Gram matrices: ids {shown}"
        f"{', ...' if refused > 5 else ''} {why}. Ask only for what the data held when "
        "they were prepared, and only once."
    )


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
