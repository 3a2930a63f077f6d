"""Labels gone wrong on purpose: training examples that ought to be forgotten."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples
from hyperforget_jax.checks import check_examples, check_key, check_sizes

__all__ = ["Poisoned", "draw_rows", "flip_labels"]


class Poisoned(NamedTuple):
    """Examples of which some have a wrong label, or a trigger too.

    Attributes:
        data: the examples, poisoned ones among them, ``[N]``.
        rows: row numbers of the poisoned ones, int32, ascending, ``[K]``.
        clean_y: every row's right label, int32, ``[N]``.
    """

    data: Examples
    rows: Array
    clean_y: Array


def flip_labels(
    key: Array,
    data: Examples,
    per_class: int,
    *,
    pairs: Sequence[Any] | None = None,
    num_classes: int | None = None,
) -> Poisoned:
    """Pair the classes, and give some rows of each the label of its partner.

    The poisoning that projected-gradient unlearning was tried on (Hoang et al., Learn
    to unlearn for deep neural networks, arXiv 2312.04095, 2023). Every label keeps its
    number of rows. ``hf.forget_rows(poisoned.data, poisoned.rows)`` is the request to
    forget the poison.

    Of each class, rows are drawn without replacement among those that count. With the
    same key and pairs a larger ``per_class`` poisons the same rows and more. For the
    host, not for use under ``jit``.

    Args:
        key: a typed key, consumed.
        data: examples with the right labels, ``[N]``.
        per_class: how many rows of each class to poison.
        pairs: pairs of labels, each label in one pair at most; a class in no pair is
            not poisoned. By default all classes, paired at random.
        num_classes: C; by default the largest label in ``data`` plus one.

    Returns:
        The poisoned examples; inputs, weights, ids and the order are those of ``data``.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: ``per_class`` not positive or more than a class has, an odd number
            of classes without ``pairs``, or pairs that are none, that repeat a class
            or that name an unknown one.
    """
    check_key(key)
    check_sizes(per_class=per_class)
    if num_classes is not None:
        check_sizes(num_classes=num_classes)
    check_examples(data, num_classes=num_classes)
    y = np.asarray(data.y).astype(np.int32)
    if num_classes is None:
        num_classes = int(y.max()) + 1
    elif pairs is None and num_classes > y.size:
        # Before any array of that many is made: some classes are empty.
        raise ValueError(
            f"num_classes={num_classes} is more than there are rows, {y.size}: pair "
            "the classes that have some by pairs=."
        )
    key_pairs, key_rows = jax.random.split(key)
    if pairs is None:
        paired = _random_pairs(key_pairs, num_classes)
    else:
        paired = _given_pairs(pairs, num_classes)
    active = np.flatnonzero(np.asarray(data.weight))
    counts = np.bincount(y[active], minlength=num_classes)
    fewest = paired.flat[counts[paired].argmin()]
    if counts[fewest] < per_class:
        raise ValueError(
            f"per_class={per_class} is more than class {fewest} has: "
            f"{counts[fewest]} rows that count (leave the class out by pairs=?)."
        )
    # Every row has a place in the queue of its class, and the first are poisoned.
    queue = np.asarray(jax.random.bits(key_rows, y.shape))[active]
    by_class = active[np.lexsort((queue, y[active]))]
    starts = np.cumsum(counts) - counts
    places = starts[paired.reshape(-1, 1)] + np.arange(per_class)
    rows = np.sort(by_class[places.ravel()])
    partner = np.arange(num_classes, dtype=np.int32)
    partner[paired] = paired[:, ::-1]
    flipped = y.copy()
    flipped[rows] = partner[y[rows]]
    return Poisoned(
        data._replace(y=jnp.array(flipped)),
        jnp.array(rows.astype(np.int32)),
        jnp.array(y),
    )


def draw_rows(key: Array, mask: np.ndarray, count: int, which: str) -> np.ndarray:
    """Draw row numbers of a mask ``[N]`` without replacement, int32, ascending.

    A larger ``count`` draws the same rows and more.

    Raises:
        ValueError: more than the mask holds, which ``which`` describes.
    """
    rows = np.flatnonzero(mask)
    if count > rows.size:
        raise ValueError(f"count={count} is more than the {rows.size} rows {which}.")
    # Bits for all rows, so that JAX compiles once for data of one length.
    queue = np.asarray(jax.random.bits(key, mask.shape))[rows]
    return np.sort(rows[np.argsort(queue, kind="stable")[:count]]).astype(np.int32)


def _random_pairs(key: Array, num_classes: int) -> np.ndarray:
    if num_classes % 2:
        raise ValueError(
            f"num_classes must be even to pair all classes, got {num_classes}: give "
            "pairs=, which may leave classes out."
        )
    return np.asarray(jax.random.permutation(key, num_classes)).reshape(-1, 2)


def _given_pairs(pairs: Sequence[Any], num_classes: int) -> np.ndarray:
    labels = np.zeros(0, int)
    try:
        labels = np.array([label for pair in pairs for label in pair])
        # An empty list has the dtype float64.
        are_pairs = all(len(pair) == 2 for pair in pairs) and labels.dtype.kind in "iu"
    except (TypeError, ValueError):
        are_pairs = False
    if not are_pairs:
        raise ValueError(
            f"pairs must be pairs of labels such as [(0, 1), (2, 3)], got {pairs!r}."
        )
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if unknown.size:
        raise ValueError(
            f"pairs must lie in [0, {num_classes}), got {unknown.tolist()}."
        )
    unique, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            "pairs must name every class once at most, got "
            f"{unique[counts > 1].tolist()} more than once."
        )
    return labels.reshape(-1, 2)
