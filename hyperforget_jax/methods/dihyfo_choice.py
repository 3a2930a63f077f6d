"""Which sampled model to keep: the first that forgot enough, then the best."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import losses, metrics, trees
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.models import predictions

__all__ = ["Choice", "choose", "share_left"]

_FAR = 1e6


class Choice(NamedTuple):
    """A sample, and how all P samples do on the probe; None where there is no probe.

    Attributes:
        number: which one, int32, ``[]``; where none is good enough, the one that has
            forgotten most.
        enough: whether it has forgotten enough, bool, ``[]``.
        achieved: its loss on every class, ``[C]``.
        forgotten_accuracy: mean over the forgotten classes, ``[P]``, NaN for samples
            that are not finite.
        retained_accuracy: likewise, over the retained classes.
        left: as :func:`share_left`, ``[P]``.
    """

    number: Array
    enough: Array
    achieved: Array | None = None
    forgotten_accuracy: Array | None = None
    retained_accuracy: Array | None = None
    left: Array | None = None


def choose(
    classifier: Classifier,
    variables: Variables,
    probe: Examples | None,
    forgotten: Array,
    each: int,
    most_left: float | Array,
) -> Choice:
    """Choose the first group in which enough is forgotten, and of it the best sample.

    Args:
        classifier: the model.
        variables: of P samples, leaves ``[P, ...]``, in groups of ``each``.
        probe: rows held out of training, ``[M]``; None, and the first is kept.
        forgotten: the classes that are to be gone, bool, ``[C]``.
        each: samples a group. The best has the smallest mean loss over the retained
            classes of the probe.
        most_left: share of a class that may be left.
    """
    if probe is None:
        first = trees.take(variables, 0)["params"]
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(first)]
        return Choice(jnp.zeros((), jnp.int32), jnp.all(jnp.stack(finite)))
    logits = predictions.population_logits(classifier, variables, probe.x)
    of_all = jax.vmap(metrics.class_scores, (0, None, None))
    scores = of_all(logits, probe.y, probe.weight)
    known = scores.weight > 0
    lost, kept = forgotten[None] & known, ~forgotten[None] & known
    mean = jax.vmap(losses.weighted_mean)
    loss = mean(scores.loss, kept)
    # A sample that is not finite is not the best, and has not forgotten.
    finite = jnp.isfinite(loss)
    left = jax.vmap(share_left, (0, None, None))(logits, probe, forgotten)
    left = jnp.where(finite, left, 1)
    group = jnp.arange(loss.shape[0]) // each
    enough = finite & (left <= most_left)
    first = jnp.min(jnp.where(enough, group, group.size))
    best = jnp.argmin(jnp.where(enough & (group == first), loss, jnp.inf))
    found = jnp.any(enough)
    number = jnp.where(found, best, jnp.argmin(left)).astype(jnp.int32)
    return Choice(
        number,
        found,
        scores.loss[number],
        jnp.where(finite, mean(scores.accuracy, lost), jnp.nan),
        jnp.where(finite, mean(scores.accuracy, kept), jnp.nan),
        left,
    )


def share_left(logits: Array, examples: Examples, forgotten: Array) -> Array:
    """Estimate what share of a forgotten class is recognised still; of the worst one.

    Counts say little where rows are few: none of thirty, and a tenth may be left. So
    the logit of the label less the largest other one is taken to be normal over a
    class, and the share is the probability that of another row it is positive:
    Student's t with mean and deviation of these rows, which is wide for few of them.

    Args:
        logits: of one model, ``[M, C]``.
        examples: the rows, ``[M]``.
        forgotten: classes, bool, ``[C]``. Those without a row are left out, and of
            those with a single one all may be left.

    Returns:
        Float32 in [0, 1], ``[]``; 0 if there are no rows of these classes.
    """
    classes = jnp.arange(logits.shape[-1])
    is_y = examples.y[:, None] == classes[None]
    logits = logits.astype(jnp.float32)
    own = jnp.sum(jnp.where(is_y, logits, 0), axis=-1)
    margin = own - jnp.max(jnp.where(is_y, -jnp.inf, logits), axis=-1)
    margin = jnp.clip(margin, -_FAR, _FAR)  # A class that is masked is at infinity.
    weight = jnp.where(is_y, examples.weight[:, None], 0).astype(jnp.float32)
    count = jnp.sum(weight, axis=0)

    def mean(values: Array, less: int) -> Array:
        total = jnp.sum(jnp.where(weight > 0, weight * values, 0), axis=0)
        return total / jnp.maximum(count - less, 1)

    centre = mean(margin[:, None], 0)
    spread = jnp.sqrt(mean(jnp.square(margin[:, None] - centre[None]), 1))
    degrees = jnp.maximum(count - 1, 1)
    t = centre / (spread * jnp.sqrt(1 + 1 / jnp.maximum(count, 1)))
    tail = jax.scipy.special.betainc(
        degrees / 2, 0.5 * jnp.ones_like(t), degrees / (degrees + jnp.square(t))
    )
    share = jnp.where(t < 0, tail / 2, 1 - tail / 2)
    share = jnp.where(jnp.isnan(share) | (count < 2), 1, share)
    return jnp.max(jnp.where(forgotten & (count > 0), share, 0))
