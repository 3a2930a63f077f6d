"""The rows that the page's models are trained on, given and scored on."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from hyperforget_jax.base import Examples, ForgetRequest
from hyperforget_jax.data.splits import stratified_split

__all__ = ["GIVEN", "SCORED", "Rows", "choose", "request", "sample"]

GIVEN = 1_000
"""Rows that methods are given, so that PGU answers in 0.3 s."""
SCORED = 2_000
"""Rows that models are scored on, of a split; no larger data are used whole."""


class Rows(NamedTuple):
    """What is used for what.

    Attributes:
        train: what the originals were trained on, and others are retrained on.
        given: those of them that methods are given.
        scored: those of them that models are scored on, none of ``given`` where there
            are enough: how rows that a method was given fare says little of others.
        test: test rows that models are scored on.
    """

    train: Examples
    given: Examples
    scored: Examples
    test: Examples


def choose(made: hf.pretrained.Pretrained, splits: hf.data.Splits) -> Rows:
    """Choose the rows for some models, of the data that they are for."""
    train = splits.train
    if made.train_ids is not None:
        seen = np.flatnonzero(np.isin(train.id, made.train_ids))
        train = train.take(jnp.asarray(seen))
    test = sample(splits.test, SCORED, seed=1)
    if train.y.shape[0] <= SCORED:
        return Rows(train, train, train, test)
    given = sample(train, GIVEN, seed=0)
    others = train
    if train.y.shape[0] >= GIVEN + SCORED:
        others = train.take(jnp.flatnonzero(~np.isin(train.id, given.id)))
    return Rows(train, given, sample(others, SCORED, seed=1), test)


def sample(examples: Examples, most: int, *, seed: int) -> Examples:
    """Draw as many examples at the most, of every class in proportion."""
    rows = examples.y.shape[0]
    if rows <= most:
        return examples
    _, drawn = stratified_split(np.asarray(examples.y), most / rows, seed=seed)
    return examples.take(jnp.asarray(drawn))


def request(
    examples: Examples, classes: tuple[int, ...], num_classes: int
) -> ForgetRequest:
    """Request to forget some classes or none, in one shape whichever they are."""
    capacity = examples.y.shape[0]
    if classes:
        return hf.forget_classes(examples, classes, capacity=capacity)
    nothing = jnp.full(capacity, capacity, jnp.int32)
    return ForgetRequest(examples, nothing, jnp.zeros(num_classes, bool))
