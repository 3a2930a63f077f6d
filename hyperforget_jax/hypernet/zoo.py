"""Zoos: the trained models from which a hypernetwork learns what forgetting looks like.

An edit zoo has trained starts and, from each of them, runs that end as models without
some classes; early checkpoints of a run have forgotten a little, so that the strength
can be learnt. Retrained models teach its runs: they learn to predict, on every training
row, as models do that never saw those classes. A generate zoo is the retrained models
themselves.
"""

import functools
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.hypernet.class_scores import score_all
from hyperforget_jax.hypernet.teachers import (
    Distillation,
    class_sets,
    retrained_log_probs,
    subfolder,
    without_classes,
)
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import fit_population
from hyperforget_jax.training.config import FitConfig
from hyperforget_jax.training.members import checked_steps

__all__ = ["Zoo", "edit_zoo", "generate_zoo"]


class Zoo(NamedTuple):
    """Checkpoints of many runs, and how each does on every class. NumPy arrays.

    Attributes:
        variables: of R runs after each of K checkpoints, leaves ``[R, K, ...]``.
        masks: the classes a run forgets, bool, ``[R, C]``.
        start: the start it began at, int32, ``[R]``; -1 for a fresh one.
        loss: its loss on each class of the probe, ``[R, K, C]``.
        accuracy: its accuracy there, likewise.
        starts: variables of S starts, leaves ``[S, ...]``; None in a generate zoo.
        start_loss: the starts' losses, ``[S, C]``; None in a generate zoo.
        steps: the steps a run had taken at each checkpoint, int32, ``[K]``.
    """

    variables: Variables
    masks: np.ndarray
    start: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    starts: Variables | None
    start_loss: np.ndarray | None
    steps: np.ndarray


def edit_zoo(
    key: Array,
    classifier: Classifier,
    train: Examples,
    probe: Examples,
    *,
    masks: Sequence[Sequence[int]],
    starts: int | Variables,
    start: FitConfig,
    forget: FitConfig,
    checkpoint_steps: Sequence[int],
    teachers: int = 4,
    temperature: float = 4.0,
    log_probs: Array | None = None,
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Zoo:
    """Fit starts, and from each start a run for every mask.

    A run minimises the divergence of its predictions from the mean prediction of
    retrained models, both at a temperature (knowledge distillation, Hinton et al.,
    arXiv 1503.02531), on forgotten and retained training rows alike. So it ends where
    retrained models are in what it predicts, and stays near its start in its
    parameters.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        train: training examples, all classes, ``[N]``.
        probe: examples held out of training, which score the checkpoints, ``[M]``.
        masks: the sets of classes that runs forget, ``[[0], [1], [0, 1], ...]``; the
            empty set gives runs that forget nothing. A hypernetwork wants runs that
            forget each class alone.
        starts: how many starts, S, or trained models to start from, leaves
            ``[S, ...]``. There are S runs a mask.
        start: how starts are fitted, and the retrained models.
        forget: how runs go on from them.
        checkpoint_steps: steps of a run after which it is kept; its last is always.
        teachers: retrained models a mask, whose mean prediction teaches.
        temperature: of both predictions, as for :class:`Distillation`.
        log_probs: this mean, of :func:`retrained_log_probs`, where it is known.
        directory: where to keep what was trained, for a call that is killed to go on
            from; see :func:`hyperforget_jax.fit_population`.
        mesh: with a ``population`` axis.
        progress: whether to show progress bars.

    Returns:
        The zoo, in host memory; a member that failed is left out, with its runs.

    Raises:
        TypeError, ValueError: malformed arguments.
        ArithmeticError: no start, or no run, stayed finite.
    """
    key = as_threefry(key)
    sets = _checked(classifier, train, probe, masks)
    checks.check_is(FitConfig, "hypernet.FitConfig", start=start, forget=forget)
    checks.check_sizes(teachers=teachers)
    checks.check_positive(temperature=temperature)
    kept = _with_last(checkpoint_steps, forget.steps)
    key_start, key_teacher, key_forget = jax.random.split(key, 3)
    populate = functools.partial(fit_population, mesh=mesh, progress=progress)
    if isinstance(starts, numbers.Integral):
        checks.check_sizes(starts=starts)
        trained = populate(
            key_start,
            classifier,
            train,
            start.optimizer,
            start.steps,
            members=starts,
            batch_size=start.batch_size,
            directory=subfolder(directory, "starts"),
        )
        well = np.flatnonzero(np.asarray(trained.failed_at) < 0)
        if not well.size:
            raise ArithmeticError("No start stayed finite: start may learn too fast.")
        begin = jax.tree.map(lambda leaf: np.asarray(leaf)[well], trained.variables)
    else:
        begin = _given_starts(classifier, starts, train)
    if log_probs is None:
        log_probs = retrained_log_probs(
            key_teacher,
            classifier,
            train,
            masks=masks,
            config=start,
            members=teachers,
            directory=directory,
            mesh=mesh,
            progress=progress,
        )
    shape = (len(sets), *train.y.shape, sets.shape[1])
    if log_probs.shape != shape:
        raise ValueError(f"log_probs must have shape {shape}, got {log_probs.shape}.")

    count = jax.tree.leaves(begin)[0].shape[0]
    from_start = np.repeat(np.arange(count), len(sets))
    of_mask = np.tile(np.arange(len(sets)), count)
    population = populate(
        key_forget,
        classifier,
        train,
        forget.optimizer,
        forget.steps,
        members=len(from_start),
        starts=trees.take(begin, from_start),
        batch_size=forget.batch_size,
        objective=Distillation(classifier, temperature),
        conditions=jnp.asarray(of_mask, jnp.int32),
        shared=log_probs,
        checkpoint_steps=kept,
        directory=subfolder(directory, "runs"),
    )
    zoo = _scored(classifier, population, sets[of_mask], from_start, probe)
    start_loss = np.asarray(score_all(classifier, begin, probe).loss)
    return zoo._replace(starts=begin, start_loss=start_loss)


def generate_zoo(
    key: Array,
    classifier: Classifier,
    train: Examples,
    probe: Examples,
    *,
    masks: Sequence[Sequence[int]],
    runs: int,
    config: FitConfig,
    checkpoint_steps: Sequence[int] = (),
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Zoo:
    """Fit models from fresh initialisations without some classes.

    Arguments, result and errors are as for :func:`edit_zoo`, but for:

    Args:
        masks: the sets of classes that runs do without.
        runs: how many for each.
        config: how they are fitted.
    """
    key = as_threefry(key)
    sets = _checked(classifier, train, probe, masks)
    checks.check_is(FitConfig, "hypernet.FitConfig", config=config)
    checks.check_sizes(runs=runs)
    populate = functools.partial(
        fit_population,
        mesh=mesh,
        progress=progress,
        checkpoint_steps=_with_last(checkpoint_steps, config.steps),
    )
    population = without_classes(
        populate, key, classifier, train, sets, runs, config, directory
    )
    of_mask = np.repeat(np.arange(len(sets)), runs)
    fresh = np.full(len(of_mask), -1)
    return _scored(classifier, population, sets[of_mask], fresh, probe)


def _given_starts(classifier, starts, train) -> Any:
    starts = jax.tree.map(np.asarray, starts)
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(starts)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            "starts must be a whole number, or variables of several models, "
            "stacked: every leaf [S, ...], as hf.fit_population(...).variables "
            f"are; got {type(starts).__name__} with leading axes {sorted(sizes)}."
        )
    checks.check_is(Mapping, "a whole number or stacked variables", starts=starts)
    checks.check_classifier(classifier, trees.take(starts, 0), train.x)
    return starts


def _scored(classifier, population, masks, start, probe) -> Zoo:
    well = np.flatnonzero(np.asarray(population.failed_at) < 0)
    if not well.size:
        raise ArithmeticError(
            "No run of the zoo stayed finite: their learning rate may be too large, or "
            "what they start from not finite."
        )
    kept = population.checkpoints
    if len(well) < len(masks):  # No copy of what may fill the memory otherwise.
        kept = trees.take(kept, well)
    runs, checkpoints = jax.tree.leaves(kept)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept)
    scores = score_all(classifier, flat, probe)
    loss, accuracy = (
        np.reshape(leaf, (runs, checkpoints, -1))
        for leaf in (scores.loss, scores.accuracy)
    )
    steps = np.asarray(population.checkpoint_steps)
    start = start[well].astype(np.int32)
    return Zoo(kept, masks[well], start, loss, accuracy, None, None, steps)


def _checked(classifier, train, probe, masks) -> np.ndarray:
    """Check what a zoo is made of; return the masks as a table, bool ``[M, C]``."""
    checks.check_is_examples(train, "train")
    num_classes = checks.check_classifier(classifier, None, train.x)
    checks.check_examples(train, num_classes=num_classes, name="train")
    checks.check_examples(probe, num_classes=num_classes, name="probe")
    checks.check_held_out(train, probe)
    seen = np.unique(np.asarray(probe.y)[np.asarray(probe.weight) > 0])
    if len(seen) < num_classes:
        missing = sorted(set(range(num_classes)) - set(seen.tolist()))
        raise ValueError(f"probe must hold every class, but has no row of {missing}.")
    return class_sets(masks, num_classes)


def _with_last(steps: Sequence[int], last: int) -> tuple[int, ...]:
    given = checked_steps(steps, last)
    return (*[step for step in given if step != last], last)
