"""What a hypernetwork is shown: from which model to which, and what was asked."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Variables
from hyperforget_jax.hypernet.prompts import Profiles
from hyperforget_jax.hypernet.zoo import Zoo

__all__ = ["Lessons", "Pair", "draw", "lessons_of", "profiles_of"]


class Lessons(NamedTuple):
    """A zoo as a table of pairs.

    Attributes:
        params: of every run's checkpoints, leaves ``[R, K, ...]``.
        loss: their losses on every class, ``[R, K, C]``.
        masks: what the runs forget, bool, ``[R, C]``.
        anchors: params to begin at, leaves ``[A, ...]``: the starts, then the last
            checkpoints of all runs. None in the free mode.
        anchor_loss: their losses, ``[A, C]``; None in the free mode.
        pairs: ``(anchor, run)`` of every pair, int32, ``[Q, 2]``.
        start: the start of every run, int32, ``[R]``.
        others: the starts' other variables, leaves ``[S, ...]``, such as normalisation
            statistics; empty if there are none.
    """

    params: Variables
    loss: Any
    masks: Any
    anchors: Variables | None
    anchor_loss: Any
    pairs: Any
    start: Any
    others: Variables


class Pair(NamedTuple):
    """One lesson.

    Attributes:
        anchor: the params to begin at; None in the free mode.
        params: the params to end at.
        loss: what these lose on every class: the prompt, ``[C]``.
        classes: what they forget, bool, ``[C]``.
        others: the other variables that go with both.
    """

    anchor: Variables | None
    params: Variables
    loss: Array
    classes: Array
    others: Variables


def lessons_of(zoo: Zoo) -> Lessons:
    """All pairs of a zoo.

    A run is paired with its start, and with the end of every other run of that start
    that forgot some of the run's classes and no others: so the hypernetwork also meets
    models that have already forgotten, as a second request does.
    """
    params = zoo.variables["params"]
    num_runs = zoo.masks.shape[0]
    if zoo.starts is None or zoo.start_loss is None:
        pairs = np.stack([np.zeros(num_runs), np.arange(num_runs)], 1)
        return Lessons(
            params,
            zoo.loss,
            zoo.masks,
            None,
            None,
            pairs.astype(np.int32),
            zoo.start,
            {},
        )
    num_starts = zoo.start_loss.shape[0]
    pairs = [(zoo.start[run], run) for run in range(num_runs)]
    for start in range(num_starts):
        runs = np.flatnonzero(zoo.start == start)
        masks = zoo.masks[runs]
        below = np.all(masks[:, None] <= masks[None], axis=-1)
        below &= np.any(masks[:, None] != masks[None], axis=-1)
        below &= np.any(masks, axis=-1)[:, None]
        pairs += [(num_starts + runs[a], runs[b]) for a, b in np.argwhere(below)]
    ends = jax.tree.map(lambda leaf: leaf[:, -1], params)
    others = {name: leaf for name, leaf in zoo.starts.items() if name != "params"}
    return Lessons(
        params,
        zoo.loss,
        zoo.masks,
        jax.tree.map(
            lambda *leaves: np.concatenate(leaves), zoo.starts["params"], ends
        ),
        np.concatenate([zoo.start_loss, zoo.loss[:, -1]]),
        np.asarray(pairs, np.int32),
        zoo.start,
        others,
    )


def profiles_of(zoo: Zoo) -> Profiles:
    """The mean losses at the end of the runs of each mask, and the largest doses.

    Raises:
        ValueError: a class that no run forgets alone.
    """
    classes = range(zoo.masks.shape[1])
    masks, member = np.unique(zoo.masks, axis=0, return_inverse=True)
    alone = np.any(masks[masks.sum(1) == 1], axis=0)
    if not alone.all():
        raise ValueError(
            "zoo must have runs that forget each class alone; there are none for "
            f"{np.flatnonzero(~alone).tolist()}."
        )
    ends = zoo.loss[:, -1]
    loss = np.stack([ends[member.ravel() == row].mean(0) for row in range(len(masks))])
    runs = [np.flatnonzero(zoo.masks[:, c] & (zoo.masks.sum(1) == 1)) for c in classes]
    largest = [np.percentile(zoo.loss[runs[c], :, c], 95) for c in classes]
    return Profiles(
        jnp.asarray(masks),
        jnp.asarray(loss, jnp.float32),
        jnp.asarray(largest, jnp.float32),
    )


def draw(key: Array, lessons: Lessons) -> Pair:
    """One pair at random; the checkpoint at random too.

    In the anchored mode the anchor itself is one of the checkpoints: whoever asks for
    the losses that a model has is to get that model. From a model that has already
    forgotten only the end of a run is shown: its earlier checkpoints still know what
    that model does not, and no request is to bring it back.
    """
    key_pair, key_checkpoint = jax.random.split(key)
    row = jax.random.randint(key_pair, (), 0, lessons.pairs.shape[0])
    anchor, run = lessons.pairs[row, 0], lessons.pairs[row, 1]
    checkpoints = lessons.loss.shape[1]
    classes = jnp.asarray(lessons.masks)[run]
    if lessons.anchors is None:
        at = jax.random.randint(key_checkpoint, (), 0, checkpoints)
        params = jax.tree.map(lambda leaf: leaf[run, at], lessons.params)
        return Pair(None, params, lessons.loss[run, at], classes, {})
    at = jax.random.randint(key_checkpoint, (), -1, checkpoints)
    num_starts = lessons.anchor_loss.shape[0] - lessons.loss.shape[0]
    at = jnp.where((anchor >= num_starts) & (at >= 0), checkpoints - 1, at)
    begin = jax.tree.map(lambda leaf: leaf[anchor], lessons.anchors)
    end = jax.tree.map(lambda leaf: leaf[run, at], lessons.params)
    none = at < 0

    def choose(own, other):
        return jnp.where(none, own, other)

    return Pair(
        begin,
        jax.tree.map(choose, begin, end),
        choose(lessons.anchor_loss[anchor], lessons.loss[run, at]),
        classes,
        jax.tree.map(lambda leaf: leaf[lessons.start[run]], lessons.others),
    )
