"""The pairs of models that a hypernetwork is trained on, with the prompts for them."""

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.hypernet.prompts import Profiles
from hyperforget_jax.hypernet.zoo import Zoo

__all__ = ["Pair", "PairDataset", "pair_dataset", "sample_pair", "zoo_profiles"]


class PairDataset(NamedTuple):
    """A zoo as a table of pairs.

    Attributes:
        params: of every run's checkpoints, leaves ``[R, K, ...]``.
        loss: their losses on every class, ``[R, K, C]``.
        masks: what the runs forget, bool, ``[R, C]``.
        sources: params to start at, leaves ``[A, ...]``: the starts, then the last
            checkpoints of all runs. None in the generate mode.
        source_loss: their losses, ``[A, C]``; None in the generate mode.
        pairs: ``(source, run, other)`` of every pair, int32, ``[Q, 3]``. The change of
            the other run is added to the run; -1 for none.
        start: the start of every run, int32, ``[R]``.
        others: the starts' other variables, leaves ``[S, ...]``, such as normalisation
            statistics; empty if there are none.
    """

    params: Variables
    loss: Any
    masks: Any
    sources: Variables | None
    source_loss: Any
    pairs: Any
    start: Any
    others: Variables


class Pair(NamedTuple):
    """One training example.

    Attributes:
        source: the params to change; None in the generate mode.
        target: the params to end at.
        teachers: two params whose predictions are to be matched, leaves ``[2, ...]``.
        share: the second one's share in the log-probability of every class, ``[C]``.
            Zero but where two changes are added: then each counts for what it forgot.
        loss: the teachers' loss on the classes that they count for: the prompt,
            ``[C]``.
        classes: what they forget, bool, ``[C]``.
        others: the other variables that go with both.
    """

    source: Variables | None
    target: Variables
    teachers: Variables
    share: Array
    loss: Array
    classes: Array
    others: Variables


def pair_dataset(zoo: Zoo) -> PairDataset:
    """List all pairs of a zoo.

    A run is paired with its start, and with the end of every other run of that start
    that forgot some of the run's classes and no others: so the hypernetwork also sees
    models that have already forgotten, as a second request does. No zoo has runs for
    all sets that requests add up to: for single classes that no run of the start
    forgets together, the changes of two runs are added, at once or one after the other.
    """
    params = zoo.variables["params"]
    num_runs = zoo.masks.shape[0]
    if zoo.starts is None or zoo.start_loss is None:
        pairs = np.array([(0, run, -1) for run in range(num_runs)], np.int32)
        return PairDataset(
            params, zoo.loss, zoo.masks, None, None, pairs, zoo.start, {}
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
        for a, b in _sums(masks, seed):
            pairs += [(num_starts + runs[a], runs[b], runs[a])]
            pairs += [(start, runs[b], runs[a])]
    sources = jax.tree.map(
        lambda start, run: np.concatenate([start, run[:, -1]]),
        zoo.starts["params"],
        params,
    )
    return PairDataset(
        params,
        zoo.loss,
        zoo.masks,
        sources,
        np.concatenate([zoo.start_loss, zoo.loss[:, -1]]),
        np.asarray(pairs, np.int32),
        zoo.start,
        {name: leaf for name, leaf in zoo.starts.items() if name != "params"},
    )


def _sums(masks: np.ndarray, seed: int) -> np.ndarray:
    """Draw runs ``(a, b)`` of one start whose sum forgets two classes that none does.

    Half as many as there are single classes: each gives two pairs, so that no more
    than half of all are sums.
    """
    small = masks[masks.sum(1) <= 2].astype(int)
    together = small.T @ small > 0
    alone = np.flatnonzero(masks.sum(1) == 1)
    label = masks[alone].argmax(1)
    found = alone[np.argwhere(~together[np.ix_(label, label)])]
    if masks.shape[1] == 2:  # Nothing would be left.
        found = found[:0]
    return np.random.default_rng(seed).permutation(found)[: len(alone) // 2]


def zoo_profiles(zoos: Iterable[Zoo]) -> Profiles:
    """Compute the profiles of a zoo, given in parts, each of which is read once.

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
    largest = []
    for label in range(sets.shape[1]):
        own = [
            loss[mask[:, label] & (mask.sum(1) == 1), :, label].ravel()
            for mask, loss in zip(masks, losses, strict=True)
        ]
        largest.append(np.percentile(np.concatenate(own), 95))
    return Profiles(
        jnp.asarray(sets),
        jnp.asarray(final, jnp.float32),
        jnp.asarray(largest, jnp.float32),
        jnp.asarray([np.min(norms), np.max(norms)], jnp.float32),
    )


def _norms(zoo: Zoo) -> tuple[float, float]:
    """Compute the smallest and the largest norm of a start's parameters."""
    if zoo.starts is None:
        return 0.0, 0.0
    squares = [
        np.square(np.asarray(leaf, np.float32)).reshape(leaf.shape[0], -1).sum(1)
        for leaf in jax.tree.leaves(zoo.starts["params"])
    ]
    norms = np.sqrt(np.sum(squares, axis=0))
    return norms.min(), norms.max()


def sample_pair(key: Array, dataset: PairDataset) -> Pair:
    """Draw one pair, and a checkpoint of its run.

    In the edit mode the source itself is one of the checkpoints: whoever asks for the
    losses that a model has is to get that model. Of a model that has already forgotten,
    and of sums, only the end of a run is shown: its earlier checkpoints still know what
    that model does not, and no request is to bring it back.
    """
    key_pair, key_checkpoint = jax.random.split(key)
    row = jax.random.randint(key_pair, (), 0, dataset.pairs.shape[0])
    source, run, other = dataset.pairs[row]
    checkpoints = dataset.loss.shape[1]
    classes = jnp.asarray(dataset.masks)[run]
    loss = jnp.asarray(dataset.loss)
    if dataset.sources is None:
        at = jax.random.randint(key_checkpoint, (), 0, checkpoints)
        target = jax.tree.map(lambda leaf: leaf[run, at], dataset.params)
        share = jnp.zeros(classes.shape)
        teachers = trees.stack([target, target])
        return Pair(None, target, teachers, share, loss[run, at], classes, {})
    at = jax.random.randint(key_checkpoint, (), -1, checkpoints)
    num_starts = dataset.source_loss.shape[0] - dataset.loss.shape[0]
    last_only = (source >= num_starts) | (other >= 0)
    at = jnp.where(last_only & (at >= 0), checkpoints - 1, at)
    start = jnp.asarray(dataset.start)[run]
    own_source = trees.take(dataset.sources, source)
    source_loss = jnp.asarray(dataset.source_loss)[source]
    other_classes = jnp.asarray(dataset.masks)[other]
    is_sum = (other >= 0) & (at >= 0)

    def first(own, source):
        return jnp.where(at < 0, source, own[run, at])

    def second(own, source):
        return jnp.where(is_sum, own[other, -1], first(own, source))

    def end(own, sources, source):
        change = jnp.where(is_sum, own[other, -1] - sources[start], 0)
        return first(own, source) + change

    def teachers(own, source):
        return jnp.stack([first(own, source), second(own, source)])

    # As a request for a set that the zoo does not have is prompted: each run for what
    # it forgot, and both for the rest.
    share = jnp.where(classes, 0.0, jnp.where(other_classes, 1.0, 0.5))
    share = jnp.where(is_sum, share, 0.0)
    return Pair(
        own_source,
        jax.tree.map(end, dataset.params, dataset.sources, own_source),
        jax.tree.map(teachers, dataset.params, own_source),
        share,
        (1 - share) * first(loss, source_loss) + share * second(loss, source_loss),
        jnp.where(other >= 0, classes | other_classes, classes),
        trees.take(dataset.others, start),
    )
