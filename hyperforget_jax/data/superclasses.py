"""Classes merged into larger ones, so that a part of a class can be forgotten."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples
from hyperforget_jax.checks import check_examples

__all__ = ["Merged", "merge_classes"]


class Merged(NamedTuple):
    """Examples whose classes were merged.

    Attributes:
        data: the examples, ``y`` the number of the group, ``[N]``.
        subclass: the labels that they had, int32, ``[N]``.
    """

    data: Examples
    subclass: Array


def merge_classes(data: Examples, groups: Sequence[Sequence[int]]) -> Merged:
    """Merge groups of classes into one class each.

    ``hf.forget_where(merged.data, merged.subclass == 3, num_classes=len(groups))`` is
    the request to forget a sub-class. Merge every split by the same groups. For the
    host, not for use under ``jit``.

    Args:
        data: examples, ``[N]``.
        groups: labels of each group, such as ``[(0, 1), (2, 3)]``, each label once.

    Returns:
        The merged examples; inputs, weights, ids and the order are those of ``data``.

    Raises:
        TypeError: data of the wrong kind.
        ValueError: groups that are none, a label in two of them, or one that examples
            have and no group.
    """
    check_examples(data)
    subclass = np.asarray(data.y).astype(np.int32)
    labels, number = _labels_and_groups(groups)
    missing = np.setdiff1d(subclass, labels)
    if missing.size:
        raise ValueError(
            f"groups must hold every label of data, {missing.tolist()} are in none."
        )
    group_of = np.zeros(labels.max() + 1, np.int32)
    group_of[labels] = number
    return Merged(data._replace(y=jnp.array(group_of[subclass])), jnp.array(subclass))


def _labels_and_groups(groups: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        members = [np.array(group) for group in groups]
        are_groups = len(members) > 0 and all(
            each.ndim == 1 and each.size and each.dtype.kind in "iu" for each in members
        )
    except (TypeError, ValueError):
        members, are_groups = [], False
    if not are_groups or min(each.min() for each in members) < 0:
        raise ValueError(
            f"groups must be groups of labels such as [(0, 1), (2, 3)], got {groups!r}."
        )
    labels = np.concatenate(members)
    unique, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            "groups must hold every label once at most, got "
            f"{unique[counts > 1].tolist()} more than once."
        )
    return labels, np.repeat(np.arange(len(members)), [each.size for each in members])
