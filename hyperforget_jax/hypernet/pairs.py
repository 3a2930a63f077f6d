"""What a hypernetwork is shown: from which model to which, and what was asked."""

import zlib
from collections.abc import Iterable
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
        pairs: ``(anchor, run, other)`` of every pair, int32, ``[Q, 3]``. The change of
            the other run is added to the run; -1 for none.
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
        teachers: two params whose answers are to be given, leaves ``[2, ...]``.
        share: the second one's share in the logarithm of every class's answer, ``[C]``.
            Zero but where two changes are added: then each answers for what it forgot.
        loss: what the teachers lose on the classes that they answer for: the prompt,
            ``[C]``.
        classes: what they forget, bool, ``[C]``.
        others: the other variables that go with both.
    """

    anchor: Variables | None
    params: Variables
    teachers: Variables
    share: Array
    loss: Array
    classes: Array
    others: Variables


def lessons_of(zoo: Zoo) -> Lessons:
    """All pairs of a zoo.

    A run is paired with its start, and with the end of every other run of that start
    that forgot some of the run's classes and no others: so the hypernetwork also meets
    models that have already forgotten, as a second request does. No zoo has runs for
    all sets that requests add up to: for single classes that no run of the start
    forgets together, the changes of two runs are added, to be asked for at once or one
    after the other.
    """
    params = zoo.variables["params"]
    num_runs = zoo.masks.shape[0]
    if zoo.starts is None or zoo.start_loss is None:
        none = np.full(num_runs, -1)
        pairs = np.stack([np.zeros(num_runs), np.arange(num_runs), none], 1)
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
    pairs = [(zoo.start[run], run, -1) for run in range(num_runs)]
    for start in range(num_starts):
        runs = np.flatnonzero(zoo.start == start)
        masks = zoo.masks[runs]
        below = np.all(masks[:, None] <= masks[None], axis=-1)
        below &= np.any(masks[:, None] != masks[None], axis=-1)
        below &= np.any(masks, axis=-1)[:, None]
        pairs += [(num_starts + runs[a], runs[b], -1) for a, b in np.argwhere(below)]
        # By what the start is: parts of a zoo count theirs from zero.
        seed = zlib.crc32(np.ascontiguousarray(zoo.start_loss[start]).tobytes())
        for a, b in _added(masks, seed):
            pairs += [(num_starts + runs[a], runs[b], runs[a])]
            pairs += [(start, runs[b], runs[a])]
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


def _added(masks: np.ndarray, seed: int) -> np.ndarray:
    """Runs ``(a, b)`` of one start whose sum forgets two classes that none forgets.

    Half as many as there are single classes, drawn at random: each gives two lessons,
    so that no more than half of all are sums.
    """
    small = masks[masks.sum(1) <= 2].astype(int)
    together = small.T @ small > 0
    alone = np.flatnonzero(masks.sum(1) == 1)
    label = masks[alone].argmax(1)
    found = alone[np.argwhere(~together[np.ix_(label, label)])]
    if masks.shape[1] == 2:  # Nothing would be left.
        found = found[:0]
    return np.random.default_rng(seed).permutation(found)[: len(alone) // 2]


def profiles_of(zoos: Iterable[Zoo]) -> Profiles:
    """The mean losses at the end of the runs of each mask, the largest doses, norms.

    Args:
        zoos: the parts of a zoo, each of which is read once.

    Raises:
        ValueError: a class that no run forgets alone.
    """
    # One in memory at once.
    known = map(lambda zoo: (zoo.masks, zoo.loss, _norms(zoo)), zoos)
    masks, losses, norms = zip(*known, strict=True)
    sets, member = np.unique(np.concatenate(masks), axis=0, return_inverse=True)
    alone = np.any(sets[sets.sum(1) == 1], axis=0)
    if not alone.all():
        raise ValueError(
            "zoo must have runs that forget each class alone; there are none for "
            f"{np.flatnonzero(~alone).tolist()}."
        )
    ends = np.concatenate([loss[:, -1] for loss in losses])
    final = np.stack([ends[member.ravel() == row].mean(0) for row in range(len(sets))])
    doses = [
        [
            loss[mask[:, label] & (mask.sum(1) == 1), :, label].ravel()
            for mask, loss in zip(masks, losses, strict=True)
        ]
        for label in range(sets.shape[1])
    ]
    largest = [np.percentile(np.concatenate(found), 95) for found in doses]
    return Profiles(
        jnp.asarray(sets),
        jnp.asarray(final, jnp.float32),
        jnp.asarray(largest, jnp.float32),
        jnp.asarray([np.min(norms), np.max(norms)], jnp.float32),
    )


def _norms(zoo: Zoo) -> tuple[float, float]:
    """The smallest and the largest norm of a start's parameters."""
    if zoo.starts is None:
        return 0.0, 0.0
    squares = [
        np.square(np.asarray(leaf, np.float32)).reshape(leaf.shape[0], -1).sum(1)
        for leaf in jax.tree.leaves(zoo.starts["params"])
    ]
    norms = np.sqrt(np.sum(squares, axis=0))
    return norms.min(), norms.max()


def draw(key: Array, lessons: Lessons) -> Pair:
    """One pair at random; the checkpoint at random too.

    In the anchored mode the anchor itself is one of the checkpoints: whoever asks for
    the losses that a model has is to get that model. From a model that has already
    forgotten only the end of a run is shown: its earlier checkpoints still know what
    that model does not, and no request is to bring it back. So it is with sums.
    """
    key_pair, key_checkpoint = jax.random.split(key)
    row = jax.random.randint(key_pair, (), 0, lessons.pairs.shape[0])
    anchor, run, other = lessons.pairs[row]
    checkpoints = lessons.loss.shape[1]
    classes = jnp.asarray(lessons.masks)[run]
    loss = jnp.asarray(lessons.loss)
    if lessons.anchors is None:
        at = jax.random.randint(key_checkpoint, (), 0, checkpoints)
        params = jax.tree.map(lambda leaf: leaf[run, at], lessons.params)
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
        nothing = jnp.zeros(classes.shape)
        return Pair(None, params, twice, nothing, loss[run, at], classes, {})
    at = jax.random.randint(key_checkpoint, (), -1, checkpoints)
    num_starts = lessons.anchor_loss.shape[0] - lessons.loss.shape[0]
    whole = (anchor >= num_starts) | (other >= 0)
    at = jnp.where(whole & (at >= 0), checkpoints - 1, at)
    start = jnp.asarray(lessons.start)[run]
    begin = jax.tree.map(lambda leaf: leaf[anchor], lessons.anchors)
    begin_loss = jnp.asarray(lessons.anchor_loss)[anchor]
    before = jnp.asarray(lessons.masks)[other]
    added = (other >= 0) & (at >= 0)

    def one(own, begin):
        return jnp.where(at < 0, begin, own[run, at])

    def two(own, begin):
        return jnp.where(added, own[other, -1], one(own, begin))

    def end(own, anchors, begin):
        return one(own, begin) + jnp.where(added, own[other, -1] - anchors[start], 0)

    def teachers(own, begin):
        return jnp.stack([one(own, begin), two(own, begin)])

    # As a request for a set that the zoo does not have is prompted: each run for what
    # it forgot, and both for the rest.
    share = jnp.where(classes, 0.0, jnp.where(before, 1.0, 0.5))
    share = jnp.where(added, share, 0.0)
    return Pair(
        begin,
        jax.tree.map(end, lessons.params, lessons.anchors, begin),
        jax.tree.map(teachers, lessons.params, begin),
        share,
        (1 - share) * one(loss, begin_loss) + share * two(loss, begin_loss),
        jnp.where(other >= 0, classes | before, classes),
        jax.tree.map(lambda leaf: leaf[start], lessons.others),
    )
