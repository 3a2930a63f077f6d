"""Loss and accuracy of models on each class."""

import jax
import numpy as np

from hyperforget_jax import checks, metrics, trees
from hyperforget_jax.base import Classifier, Examples, Variables
from hyperforget_jax.metrics import ClassScores
from hyperforget_jax.models import predictions

__all__ = ["class_scores", "population_scores", "score_all"]


def class_scores(
    classifier: Classifier, variables: Variables, examples: Examples
) -> ClassScores:
    """Compute the scores of one model, ``[C]``."""
    logits = predictions.logits(classifier, variables, examples.x)
    return metrics.class_scores(logits, examples.y, examples.weight)


def population_scores(
    classifier: Classifier, variables: Variables, examples: Examples
) -> ClassScores:
    """Compute the scores of stacked models, ``[P, C]``."""
    logits = predictions.population_logits(classifier, variables, examples.x)
    score = jax.vmap(metrics.class_scores, (0, None, None))
    return score(logits, examples.y, examples.weight)


def score_all(
    classifier: Classifier,
    variables: Variables,
    examples: Examples,
    batch_size: int = 64,
) -> ClassScores:
    """Compute the scores of many stacked models, ``[P, C]``, on the host.

    ``batch_size`` of them are on the device at once.
    """
    checks.check_sizes(batch_size=batch_size)
    count = jax.tree.leaves(variables)[0].shape[0]
    size = min(batch_size, count)
    found = []
    for first in range(0, count, size):
        # The last batch is filled up, so that all share a compilation.
        rows = np.minimum(np.arange(first, first + size), count - 1)
        scores = _score_batch(classifier, trees.take(variables, rows), examples)
        found.append(jax.tree.map(np.asarray, scores))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *found)


_score_batch = jax.jit(population_scores, static_argnums=0)
