"""Teachers: what models answer that were retrained without some classes."""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models import predictions
from hyperforget_jax.training import Objective, fit_population

__all__ = [
    "Training",
    "distillation",
    "oracle_answers",
    "retrained_answers",
    "sets_of",
    "within",
    "without_classes",
]


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
    key = as_threefry(key)
    checks.check_is_examples(train, "train")
    num_classes = checks.check_classifier(classifier, None, train.x)
    sets = sets_of(masks, num_classes)
    checks.check_sizes(members=members)
    populate = functools.partial(fit_population, mesh=mesh, progress=progress)
    retrained = without_classes(
        populate, key, classifier, train, sets, members, training, directory
    )
    return oracle_answers(classifier, retrained, train, len(sets))


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
    """

    def objective(mask, answers):
        def loss_fn(key, variables, batches):
            del key  # Evaluation mode: normalisation statistics stay the start's.
            rows = batches[0].examples
            wanted = answers[mask, batches[0].row]
            logits = classifier.apply(variables, rows.x)
            logs = jax.nn.log_softmax(logits.astype(jnp.float32))
            return jnp.mean(jnp.sum(jnp.exp(wanted) * (wanted - logs), -1)), variables

        return loss_fn

    return objective


def without_classes(populate, key, classifier, train, sets, each, training, directory):
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
        directory=within(directory, "retrained"),
    )


def sets_of(masks: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    """Sets of classes as a table, bool ``[M, C]``; raises for malformed ones."""
    checks.check_is(Collection, "a list of sets of classes, [[0], [1]]", masks=masks)
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


def within(directory: str | Path | None, name: str) -> Path | None:
    """A folder in another, where there is one."""
    return None if directory is None else Path(directory) / name
