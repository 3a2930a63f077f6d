"""Zoos: the trained models from which a hypernetwork learns what forgetting looks like.

An anchored zoo has trained starts and, from each of them, runs that end as models
without some classes; early checkpoints of a run have forgotten a little, so that the
dose can be learnt. Its runs are taught by retrained models: they learn to answer, on
every training row, as models do that never saw those classes. A free zoo is the
retrained models themselves.
"""

import functools
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.hypernet.labels import ClassScores, score_all
from hyperforget_jax.models import predictions
from hyperforget_jax.training import Objective, fit_population

__all__ = [
    "Training",
    "Zoo",
    "anchored_zoo",
    "distillation",
    "free_zoo",
    "oracle_answers",
    "retrained_answers",
]


class Zoo(NamedTuple):
    """Checkpoints of many runs, and what each of them knows. NumPy arrays.

    Attributes:
        variables: of R runs after each of K checkpoints, leaves ``[R, K, ...]``.
        masks: the classes a run forgets, bool, ``[R, C]``.
        start: the start it began at, int32, ``[R]``; -1 for a fresh one.
        loss: its loss on each class of the probe, ``[R, K, C]``.
        accuracy: its accuracy there, likewise.
        starts: variables of S starts, leaves ``[S, ...]``; None in a free zoo.
        start_loss: the starts' losses, ``[S, C]``; None in a free zoo.
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


class Training(NamedTuple):
    """How one kind of model is trained.

    Attributes:
        optimizer: any optax optimiser.
        steps: minibatches.
        batch_size: rows in each.
    """

    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int = 128


def anchored_zoo(
    key: Array,
    classifier: Classifier,
    train: Examples,
    probe: Examples,
    *,
    masks: Sequence[Sequence[int]],
    starts: int | Variables,
    start: Training,
    forget: Training,
    checkpoint_steps: Sequence[int],
    oracles: int = 4,
    answers: Array | None = None,
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Zoo:
    """Starts, and from each start a run for every mask.

    A run minimises the divergence of its answers from the mean answer of retrained
    models (knowledge distillation, Hinton et al., arXiv 1503.02531), on forgotten and
    retained training rows alike. So it ends where retrained models are, in what it
    answers, and stays near its start in its parameters.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        train: training examples, all classes, ``[N]``.
        probe: examples held out of training, which label the checkpoints, ``[M]``.
        masks: the sets of classes that runs forget, ``[[0], [1], [0, 1], ...]``; the
            empty set gives runs that forget nothing. A hypernetwork wants runs that
            forget each class alone.
        starts: how many starts, S, or trained models to start from, leaves
            ``[S, ...]``. There are S runs a mask.
        start: how starts are trained, and the retrained models.
        forget: how runs go on from them.
        checkpoint_steps: steps of a run after which it is kept; its last is always.
        oracles: retrained models a mask, whose mean answer teaches.
        answers: this mean answer, of :func:`retrained_answers`, where it is known.
        directory: where to keep what was trained, for a call that is killed to go on
            from; see :func:`hyperforget_jax.fit_population`.
        mesh: with a ``population`` axis.
        progress: whether to show progress bars.

    Returns:
        The zoo, in host memory; a member that failed is left out, with its runs.

    Raises:
        TypeError, ValueError: malformed arguments.
    """
    sets, num_classes = _checked(classifier, train, probe, masks)
    checks.check_is(Training, "hypernet.Training", start=start, forget=forget)
    checks.check_positive(oracles=oracles)
    kept = _with_last(checkpoint_steps, forget.steps)
    key_start, key_oracle, key_forget = jax.random.split(key, 3)
    populate = functools.partial(fit_population, mesh=mesh, progress=progress)
    if isinstance(starts, numbers.Integral):
        checks.check_positive(starts=starts)
        trained = populate(
            key_start,
            classifier,
            train,
            start.optimizer,
            start.steps,
            members=starts,
            batch_size=start.batch_size,
            directory=_within(directory, "starts"),
        )
        well = np.flatnonzero(np.asarray(trained.failed_at) < 0)
        begun = jax.tree.map(lambda leaf: np.asarray(leaf)[well], trained.variables)
    else:
        begun = jax.tree.map(np.asarray, starts)
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(begun)}
        if len(sizes) != 1 or sizes == {()}:
            raise ValueError(
                "starts must be a number, or stacked variables, every leaf [S, ...]; "
                f"got leading axes {sorted(sizes)}."
            )
        one = jax.tree.map(lambda leaf: leaf[0], begun)
        checks.check_classifier(classifier, one, train.x)
    if answers is None:
        answers = retrained_answers(
            key_oracle,
            classifier,
            train,
            masks=masks,
            training=start,
            members=oracles,
            directory=directory,
            mesh=mesh,
            progress=progress,
        )
    shape = (len(sets), *train.y.shape, num_classes)
    if answers.shape != shape:
        raise ValueError(f"answers must have shape {shape}, got {answers.shape}.")

    count = jax.tree.leaves(begun)[0].shape[0]
    from_start = np.repeat(np.arange(count), len(sets))
    of_mask = np.tile(np.arange(len(sets)), count)
    population = populate(
        key_forget,
        classifier,
        # A row's name is its place in the table of answers.
        train._replace(id=jnp.arange(train.y.shape[0], dtype=jnp.int32)),
        forget.optimizer,
        forget.steps,
        members=len(from_start),
        starts=jax.tree.map(lambda leaf: leaf[from_start], begun),
        batch_size=forget.batch_size,
        objective=distillation(classifier),
        conditions=jnp.asarray(of_mask, jnp.int32),
        shared=answers,
        checkpoint_steps=kept,
        directory=_within(directory, "runs"),
    )
    zoo = _labelled(classifier, population, sets[of_mask], from_start, probe)
    start_loss = score_all(classifier, begun, probe).loss
    return zoo._replace(starts=begun, start_loss=start_loss)


def retrained_answers(
    key: Array,
    classifier: Classifier,
    train: Examples,
    *,
    masks: Sequence[Sequence[int]],
    training: Training,
    members: int = 4,
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Array:
    """What models trained without some classes answer on every training row.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        train: training examples, all classes, ``[N]``.
        masks: the sets of classes that they do without, M of them.
        training: how they are trained.
        members: models a mask, whose mean is taken.
        directory: as for :func:`anchored_zoo`.
        mesh: with a ``population`` axis.
        progress: whether to show a progress bar.

    Returns:
        Logarithm of the mean probabilities, float32, ``[M, N, C]``.
    """
    checks.check_is_examples(train, "train")
    num_classes = checks.check_classifier(classifier, None, train.x)
    sets = _sets(masks, num_classes)
    checks.check_positive(members=members)
    populate = functools.partial(fit_population, mesh=mesh, progress=progress)
    retrained = _without_classes(
        populate, key, classifier, train, sets, members, training, directory
    )
    return oracle_answers(classifier, retrained, train, len(sets))


def free_zoo(
    key: Array,
    classifier: Classifier,
    train: Examples,
    probe: Examples,
    *,
    masks: Sequence[Sequence[int]],
    runs: int,
    training: Training,
    checkpoint_steps: Sequence[int] = (),
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Zoo:
    """Models trained from fresh initialisations without some classes.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        train: training examples, all classes, ``[N]``.
        probe: examples held out of training, which label the checkpoints, ``[M]``.
        masks: the sets of classes that runs do without.
        runs: how many for each.
        training: how they are trained.
        checkpoint_steps: steps after which a run is kept; its last is always.
        directory: as for :func:`anchored_zoo`.
        mesh: with a ``population`` axis.
        progress: whether to show progress bars.

    Returns:
        The zoo, in host memory; a member that failed is left out.

    Raises:
        TypeError, ValueError: malformed arguments.
    """
    sets, _ = _checked(classifier, train, probe, masks)
    checks.check_positive(runs=runs)
    populate = functools.partial(
        fit_population,
        mesh=mesh,
        progress=progress,
        checkpoint_steps=_with_last(checkpoint_steps, training.steps),
    )
    population = _without_classes(
        populate, key, classifier, train, sets, runs, training, directory
    )
    of_mask = np.repeat(np.arange(len(sets)), runs)
    fresh = np.full(len(of_mask), -1)
    return _labelled(classifier, population, sets[of_mask], fresh, probe)


def oracle_answers(
    classifier: Classifier, retrained: Any, train: Examples, num_masks: int
) -> Array:
    """Logarithm of the mean answer of the retrained models of each mask.

    Args:
        classifier: the model.
        retrained: a population, ``num_masks`` times as many members for each mask in
            turn; members that failed do not count.
        train: the rows to answer, ``[N]``.
        num_masks: M.

    Returns:
        Log-probabilities, float32, ``[M, N, C]``.
    """
    members = retrained.failed_at.shape[0] // num_masks

    def by_mask(leaf):
        return jnp.reshape(leaf, (num_masks, members, *leaf.shape[1:]))

    stacked = jax.tree.map(by_mask, (retrained.variables, retrained.failed_at))
    return _mean_answers(classifier, stacked, train.x)


@functools.partial(jax.jit, static_argnames="classifier")
def _mean_answers(classifier: Classifier, stacked: Any, x: Array) -> Array:
    def one_mask(own):
        variables, failed_at = own
        logits = predictions.population_logits(classifier, variables, x)
        logs = jax.nn.log_softmax(logits)
        well = (failed_at < 0)[:, None, None]
        # All members failed: their last finite variables answer.
        well = jnp.where(jnp.any(well), well, True)
        mean = jax.nn.logsumexp(logs, axis=0, b=well, where=well)
        return mean - jnp.log(jnp.sum(well))

    return jax.lax.map(one_mask, stacked)


@functools.lru_cache(maxsize=16)
def distillation(classifier: Classifier) -> Objective:
    """The objective of a run: to answer as the retrained models of its mask do.

    Its condition is a mask's number, and what is shared are the answers ``[M, N, C]``.
    Rows are found in them by their id, which must be their place.
    """

    def objective(mask, answers):
        def loss_fn(key, variables, batches):
            del key  # Evaluation mode: normalisation statistics stay the start's.
            rows = batches[0].examples
            wanted = answers[mask, rows.id]
            logits = classifier.apply(variables, rows.x)
            logs = jax.nn.log_softmax(logits.astype(jnp.float32))
            return jnp.mean(jnp.sum(jnp.exp(wanted) * (wanted - logs), -1)), variables

        return loss_fn

    return objective


def _without_classes(populate, key, classifier, train, sets, each, training, directory):
    """``each`` models a mask, trained on the other classes' rows alone."""
    weights = np.where(sets[:, np.asarray(train.y)], 0, np.asarray(train.weight))
    return populate(
        key,
        classifier,
        train,
        training.optimizer,
        training.steps,
        members=len(sets) * each,
        weights=np.repeat(weights, each, axis=0).astype(np.int32),
        batch_size=training.batch_size,
        directory=_within(directory, "retrained"),
    )


def _labelled(classifier, population, masks, start, probe) -> Zoo:
    well = np.flatnonzero(np.asarray(population.failed_at) < 0)
    kept = population.checkpoints
    if len(well) < len(masks):  # No copy of what may fill the memory otherwise.
        kept = jax.tree.map(lambda leaf: leaf[well], kept)
    runs, checkpoints = jax.tree.leaves(kept)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept)
    scores: ClassScores = jax.tree.map(
        lambda leaf: leaf.reshape(runs, checkpoints, -1),
        score_all(classifier, flat, probe),
    )
    return Zoo(
        kept,
        masks[well],
        start[well].astype(np.int32),
        scores.loss,
        scores.accuracy,
        None,
        None,
        np.asarray(population.checkpoint_steps),
    )


def _checked(classifier, train, probe, masks) -> tuple[np.ndarray, int]:
    """The masks as a table, bool ``[M, C]``, and C."""
    checks.check_is_examples(train, "train")
    num_classes = checks.check_classifier(classifier, None, train.x)
    checks.check_examples(train, num_classes=num_classes, name="train")
    checks.check_examples(probe, num_classes=num_classes, name="probe")
    checks.check_held_out(train, probe)
    seen = np.unique(np.asarray(probe.y)[np.asarray(probe.weight) > 0])
    if len(seen) < num_classes:
        missing = sorted(set(range(num_classes)) - set(seen.tolist()))
        raise ValueError(f"probe must hold every class, but has no row of {missing}.")
    return _sets(masks, num_classes), num_classes


def _sets(masks: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    sets = np.zeros((len(masks), num_classes), bool)
    for row, classes in enumerate(masks):
        if not np.iterable(classes):
            raise TypeError(
                "masks must be sets of classes, such as [[0], [1], [0, 1]]; got "
                f"{classes!r} among them."
            )
        for label in classes:
            if not 0 <= label < num_classes:
                raise ValueError(
                    f"masks must hold classes in [0, {num_classes}), got "
                    f"{list(classes)}."
                )
            sets[row, label] = True
        if sets[row].sum() < len(classes):
            raise ValueError(f"masks must not repeat a class, got {list(classes)}.")
    if not len(sets) or sets.all(axis=1).any():
        raise ValueError("masks must be sets of classes, none of them of all classes.")
    if len(np.unique(sets, axis=0)) < len(sets):
        raise ValueError("masks must not repeat a set of classes.")
    return sets


def _with_last(steps: Sequence[int], last: int) -> tuple[int, ...]:
    given = [int(step) for step in steps]
    if given != sorted(set(given)) or not all(1 <= step <= last for step in given):
        raise ValueError(
            f"checkpoint_steps must increase and lie in [1, {last}], got {given}."
        )
    return (*[step for step in given if step != last], last)


def _within(directory: str | Path | None, name: str) -> Path | None:
    return None if directory is None else Path(directory) / name
