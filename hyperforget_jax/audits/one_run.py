"""An audit of one training and one unlearning, by canaries."""

from typing import NamedTuple

import numpy as np

from hyperforget_jax.audits.bounds import one_run_bound

__all__ = ["OneRun", "one_run"]


class OneRun(NamedTuple):
    """What the canaries of one run prove.

    Attributes:
        epsilon: the lower bound, zero if nothing is proven.
        most: what as many guesses prove if all are right.
        right: guesses that were right.
        guesses: how many were made; the auditor abstained on all other canaries.
        canaries: how many there were.
    """

    epsilon: float
    most: float
    right: int
    guesses: int
    canaries: int


def one_run(
    scores: np.ndarray,
    included: np.ndarray,
    *,
    guesses_in: int,
    guesses_out: int,
    delta: float = 0.0,
    level: float = 0.95,
) -> OneRun:
    """Bound epsilon by guesses of canaries' coins from one model.

    The largest scores are guessed to be included, the smallest not. How many are
    guessed must be fixed before looking, and so must the direction: to see forgetting
    that overshoots, whose included canaries have small scores, give the negated scores
    as well and half of ``1 - level`` to either.

    For unlearning, included canaries were trained with and then unlearned, the others
    never seen (see :func:`hyperforget_jax.data.canaries`). The bound is on training and
    unlearning together.

    Args:
        scores: of one model on all canaries, such as logit-scaled confidences in their
            wrong labels, ``[K]``; of equal ones the first count as larger.
        included: the coins, bool, ``[K]``.
        guesses_in: how many of the largest scores are guessed to be included.
        guesses_out: how many of the smallest are guessed not to be.
        delta: in [0, 1).
        level: of the bound.

    Raises:
        TypeError: coins that are not booleans.
        ValueError: shapes that differ, NaN, no guesses or more than canaries.

    References:
        Steinke, Nasr and Jagielski, Privacy auditing with one (1) training run, arXiv
        2305.08846, 2023, algorithm 1.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included)
    if included.dtype != bool:
        raise TypeError(f"included must hold booleans, got dtype {included.dtype}.")
    if scores.ndim != 1 or scores.shape != included.shape:
        raise ValueError(
            "scores and included must both be [K], one a canary, got shapes "
            f"{scores.shape} and {included.shape}."
        )
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN: has the model diverged?")
    count, guesses = scores.size, guesses_in + guesses_out
    if min(guesses_in, guesses_out) < 0 or not 1 <= guesses <= count:
        raise ValueError(
            f"guesses_in and guesses_out must add up to between 1 and {count}, got "
            f"{guesses_in} and {guesses_out}."
        )
    # Which of equal scores comes first knows nothing of the coins.
    order = np.argsort(-scores, kind="stable")
    right = int(
        included[order[:guesses_in]].sum()
        + (~included[order[count - guesses_out :]]).sum()
    )
    bound, most = (
        one_run_bound(number, guesses, count, delta=delta, level=level)
        for number in (right, guesses)
    )
    return OneRun(bound, most, right, guesses, count)
