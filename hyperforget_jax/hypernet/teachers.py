"""Teachers: models retrained without some classes, and distillation from them."""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models import predictions
from hyperforget_jax.training import Population, fit_population
from hyperforget_jax.training.config import FitConfig

__all__ = [
    "Distillation",
    "class_sets",
    "mean_log_probs",
    "retrained_log_probs",
    "subfolder",
    "without_classes",
]


def retrained_log_probs(
    key: Array,
    classifier: Classifier,
    train: Examples,
    *,
    masks: Sequence[Sequence[int]],
    config: FitConfig,
    members: int = 4,
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Array:
    """Fit models without some classes, and average their predictions on every row.

    Other arguments are as for :func:`edit_zoo`.

    Args:
        masks: the sets of classes that they do without, M of them.
        config: how they are fitted.
        members: models a mask, whose mean is taken.

    Returns:
        Logarithm of the mean probabilities, float32, ``[M, N, C]``.
    """
    key = as_threefry(key)
    checks.check_is_examples(train, "train")
    num_classes = checks.check_classifier(classifier, None, train.x)
    sets = class_sets(masks, num_classes)
    checks.check_sizes(members=members)
    populate = functools.partial(fit_population, mesh=mesh, progress=progress)
    retrained = without_classes(
        populate, key, classifier, train, sets, members, config, directory
    )
    return mean_log_probs(classifier, retrained, train.x, len(sets))


@functools.partial(jax.jit, static_argnums=(0, 3))
def mean_log_probs(
    classifier: Classifier, retrained: Population, x: Array, num_masks: int
) -> Array:
    """Average the predictions of the retrained models of each of M masks.

    The population has as many members for each mask in turn; those that failed do not
    count. Returns the logarithm of mean probabilities, float32, ``[M, N, C]``.
    """
    members = retrained.failed_at.shape[0] // num_masks

    def by_mask(leaf):
        return jnp.reshape(leaf, (num_masks, members, *leaf.shape[1:]))

    def one_mask(own):
        variables, failed_at = own
        logits = predictions.population_logits(classifier, variables, x)
        logs = jax.nn.log_softmax(logits)
        well = (failed_at < 0)[:, None, None]
        # All members failed: their last finite variables predict.
        well = jnp.where(jnp.any(well), well, True)
        mean = jax.nn.logsumexp(logs, axis=0, b=well, where=well)
        return mean - jnp.log(jnp.sum(well))

    stacked = jax.tree.map(by_mask, (retrained.variables, retrained.failed_at))
    return jax.lax.map(one_mask, stacked)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The objective of a run: to predict as the retrained models of its mask do.

    As :func:`hyperforget_jax.fit_population` takes it: the condition is a mask's
    number, and what is shared are log-probabilities ``[M, N, C]``.

    Attributes:
        classifier: the model.
        temperature: what logits are divided by on both sides, as in the source. At 1 a
            small probability weighs nothing once it is small: the first steps push the
            label of a forgotten row too far down, and nothing brings it back.
    """

    classifier: Classifier
    temperature: float = 4.0

    def __call__(self, mask: Array, log_probs: Array):
        """Return the loss of one mask's runs."""

        def loss_fn(key, variables, batches):
            del key  # Evaluation mode: normalisation statistics stay the start's.
            batch = batches[0]
            logits = self.classifier.apply(variables, batch.examples.x)
            wanted, logs = (
                jax.nn.log_softmax(own.astype(jnp.float32) / self.temperature)
                for own in (log_probs[mask, batch.row], logits)
            )
            divergence = jnp.mean(jnp.sum(jnp.exp(wanted) * (wanted - logs), -1))
            # Gradients fall with the square of a temperature.
            return self.temperature**2 * divergence, variables

        return loss_fn


def without_classes(
    populate, key, classifier, train, sets, each, config, directory
) -> Population:
    """Fit ``each`` models a mask, on the other classes' rows alone."""
    weights = np.where(sets[:, np.asarray(train.y)], 0, np.asarray(train.weight))
    return populate(
        key,
        classifier,
        train,
        config.optimizer,
        config.steps,
        members=len(sets) * each,
        weights=np.repeat(weights, each, axis=0).astype(np.int32),
        batch_size=config.batch_size,
        directory=subfolder(directory, "retrained"),
    )


def class_sets(masks: Any, num_classes: int) -> np.ndarray:
    """Write sets of classes as a table, bool ``[M, C]``; raise for malformed ones."""
    checks.check_is(Collection, "a list of sets of classes, [[0], [1]]", masks=masks)
    sets = np.zeros((len(masks), num_classes), bool)
    for row, classes in enumerate(masks):
        if not np.iterable(classes):
            raise TypeError(
                "masks must be sets of classes, such as [[0], [1], [0, 1]]; got "
                f"{classes!r} among them."
            )
        if not all(0 <= label < num_classes for label in classes):
            raise ValueError(
                f"masks must hold classes in [0, {num_classes}), got {list(classes)}."
            )
        sets[row, list(classes)] = True
        if sets[row].sum() < len(list(classes)):
            raise ValueError(f"masks must not repeat a class, got {list(classes)}.")
    if not len(sets) or sets.all(axis=1).any():
        raise ValueError("masks must be sets of classes, none of them of all classes.")
    if len(np.unique(sets, axis=0)) < len(sets):
        raise ValueError("masks must not repeat a set of classes.")
    return sets


def subfolder(directory: str | Path | None, name: str) -> Path | None:
    """Return a folder in another, where there is one."""
    return None if directory is None else Path(directory) / name
