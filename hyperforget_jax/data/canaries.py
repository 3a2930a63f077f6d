"""Canaries: examples that a fair coin puts into training, for an audit of one run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples
from hyperforget_jax.checks import check_examples, check_key, check_sizes
from hyperforget_jax.data.poisoning import draw_rows
from hyperforget_jax.requests import num_classes_of

__all__ = ["Canaries", "canaries"]


class Canaries(NamedTuple):
    """Examples with canaries among them.

    Attributes:
        data: the examples, ``[N]``; a canary has a wrong label, and weighs one if it
            is included and zero if not.
        rows: row numbers of all canaries, int32, ascending, ``[K]``.
        included: which of them are, by a coin each, bool, ``[K]``.
    """

    data: Examples
    rows: Array
    included: Array


def canaries(
    key: Array, data: Examples, count: int, *, num_classes: int | None = None
) -> Canaries:
    """Turn some rows into canaries: a wrong label, in or out by a fair coin.

    A wrong label is learnt by heart or not at all, so that a model shows whether it was
    trained with the canary. Train on ``canaries.data``, ask for
    ``hf.forget_rows(canaries.data, canaries.rows[canaries.included])``, and give
    :func:`hyperforget_jax.audits.one_run` the confidences of the unlearned model in the
    wrong labels of all canaries, ``canaries.data.take(canaries.rows)``. No clean copy
    of a canary is left. For the host, not for use under ``jit``.

    The canaries of Steinke et al., Privacy auditing with one (1) training run, arXiv
    2305.08846, 2023. The coins are independent, which its bound needs: how many
    canaries are included is not fixed.

    Args:
        key: a typed key, consumed; it draws rows, labels and coins.
        data: examples with the right labels, ``[N]``.
        count: how many canaries, K.
        num_classes: C; by default the largest label plus one.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: more canaries than rows that count, less than two classes, or labels
            that ``num_classes`` does not hold.
    """
    check_key(key)
    check_sizes(count=count)
    check_examples(data)
    num_classes = num_classes_of(data, num_classes)
    if num_classes < 2:
        raise ValueError("A wrong label needs two classes: give num_classes=.")
    key_rows, key_labels, key_coins = jax.random.split(key, 3)
    y, weight = np.array(data.y), np.array(data.weight)
    rows = draw_rows(key_rows, weight > 0, count, "that count")
    # One to C - 1 classes further on: every wrong label is as likely.
    step = np.asarray(jax.random.randint(key_labels, (count,), 1, num_classes))
    included = jax.random.bernoulli(key_coins, shape=(count,))
    y[rows] = (y[rows] + step) % num_classes
    weight[rows] = included
    changed = data._replace(y=jnp.array(y), weight=jnp.array(weight))
    return Canaries(changed, jnp.array(rows), included)
