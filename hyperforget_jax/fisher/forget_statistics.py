"""What a model says about the data to be forgotten, in statistics alone.

No example leaves the model that saw it, and no descendant needs its own again.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Variables,
)
from hyperforget_jax.fisher.diagonal import diagonal
from hyperforget_jax.fisher.fiun_config import FIUnConfig
from hyperforget_jax.fisher.information import Fisher, check_comparable, maximum
from hyperforget_jax.microbatch import batch_rows
from hyperforget_jax.models.head import Head, head_by_class

__all__ = [
    "ForgetStatistics",
    "by_trace",
    "data_fisher",
    "forget_statistics",
    "merge_statistics",
    "on_scale",
    "own_logits",
    "trace",
]

_NORMAL = jnp.finfo(jnp.float32).tiny
_EXACT = lax.Precision.HIGHEST


class ForgetStatistics(NamedTuple):
    """Statistics of the data to be forgotten, at the model that saw them.

    Attributes:
        fisher: diagonal Fisher of the forget data at the root's variables; None if
            nothing is dampened.
        classes: the requested classes, bool, ``[C]``.
        total_weight: of the forget data by class, float32, ``[C]``.
        predictions: mean probabilities on the forgotten examples of each class, with
            the requested classes suppressed, float32, ``[C, C]``.
        features: the head's mean input on them, float32, ``[C, d]``.
        own_logit: the mean centred logit of each class on its forgotten examples,
            float32, ``[C]``: how well the root knows them.
    """

    fisher: Fisher | None
    classes: Array
    total_weight: Array
    predictions: Array
    features: Array
    own_logit: Array


def own_logits(kernel: Array, bias: Array, features: Array) -> Array:
    """Compute the mean logit of each class on its own examples, float32, ``[C]``."""
    product = jnp.einsum("cd,dc->c", features, kernel, precision=_EXACT)
    return (product + bias).astype(jnp.float32)


def data_fisher(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    config: FIUnConfig,
    head: Head,
) -> Fisher | None:
    """Measure the Fisher that a configuration compares with; None if it needs none."""
    if not config.dampens:
        return None
    # Never less than one minibatch, whose size is part of what the Fisher is.
    size = max(config.batch_size, data.y.shape[0])
    return diagonal(
        classifier,
        variables,
        data.take(jnp.arange(size)),
        estimator=config.estimator,
        batch_size=config.batch_size,
        scope=(head.path,) if config.scope == "head" else None,
    )


def forget_statistics(
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    config: FIUnConfig,
    head: Head,
) -> ForgetStatistics:
    """Compute statistics of the data to be forgotten. No other example is read."""
    forget = request.forget
    taps: Any = classifier.taps  # Without any there is no head.
    num_classes = request.classes.shape[-1]
    kernel, bias = head_by_class(variables, head, num_classes)
    mask = variables.get(OUTPUT_MASK, jnp.zeros(num_classes, bool))
    suppressed = {**variables, OUTPUT_MASK: mask | request.classes}

    def of_batch(rows):
        batch = forget.take(rows)
        chosen = jax.nn.one_hot(batch.y, num_classes, dtype=jnp.float32)
        chosen = chosen * batch.weight[:, None].astype(jnp.float32)
        (tap,) = taps(variables, batch.x)[head.path]
        predictions = jax.nn.softmax(classifier.apply(suppressed, batch.x))
        # Chosen, not multiplied by zero: zero times NaN is NaN.
        there = batch.weight[:, None] > 0
        predictions, features = (
            jnp.where(there, each, 0).astype(jnp.float32)
            for each in (predictions, tap.input)
        )
        return (
            jnp.sum(chosen, axis=0),
            jnp.matmul(chosen.T, predictions, precision=_EXACT),
            jnp.matmul(chosen.T, features, precision=_EXACT),
        )

    batches = batch_rows(forget.y.shape[0], config.batch_size)
    weight, predictions, features = jax.tree.map(
        lambda leaf: jnp.sum(leaf, axis=0), lax.map(of_batch, batches)
    )
    share = jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)[:, None]
    predictions, features = predictions * share, features * share
    return ForgetStatistics(
        data_fisher(classifier, variables, forget, config, head),
        request.classes,
        weight,
        predictions,
        features,
        own_logits(kernel, bias, features),
    )


def trace(leaf: Array) -> Array:
    """Compute the sum of a Fisher's leaf; one where that is nothing."""
    total = jnp.sum(leaf)
    return jnp.where(total >= _NORMAL, total, 1)


def by_trace(fisher: Fisher, own: Fisher, config: FIUnConfig) -> Fisher:
    """Divide by the trace of a model's own Fisher, if the config matches scales."""
    if not config.match_trace:
        return fisher
    values = jax.tree.map(lambda f, d: f / trace(d), fisher.values, own.values)
    return dataclasses.replace(fisher, values=values)


def on_scale(
    statistics: ForgetStatistics, own: Fisher | None, config: FIUnConfig
) -> ForgetStatistics:
    """Bring a root's Fisher to the scale on which models are compared.

    ``own`` is that of the root's training data.
    """
    found = statistics.fisher
    if found is None:
        return statistics
    if own is None:
        raise ValueError(
            "The state has no Fisher to compare with: make it by init under the config "
            "that requests are answered by."
        )
    check_comparable(found, own)
    if config.by_share:
        total = jnp.where(own.total_weight > 0, own.total_weight, 1)
        share = jnp.sum(statistics.total_weight) / total
        values = jax.tree.map(lambda leaf: leaf * share, found.values)
        found = dataclasses.replace(found, values=values)
    return statistics._replace(fisher=by_trace(found, own, config))


def merge_statistics(statistics: ForgetStatistics, reach: Array) -> ForgetStatistics:
    """Merge what reaches each model: Fishers by their maximum, the rest by weight.

    Args:
        statistics: stacked, leaves ``[J, ...]``. What reaches nobody may be anything,
            NaN too.
        reach: which roots reach which model, bool, ``[M, J]``.

    Returns:
        Statistics stacked ``[M, ...]``; zero where nothing reaches.
    """
    found = statistics.fisher
    if found is not None:
        found = maximum(found, reach)
    weight = reach[:, :, None] * statistics.total_weight[None]  # [M, J, C]
    total = jnp.sum(weight, axis=1)
    weight = weight / jnp.where(total > 0, total, 1)[:, None]

    def mean(leaf):
        def add(given):
            return jnp.einsum("mjc,jc...->mc...", weight, given, precision=_EXACT)

        # What does not reach a model may be anything: zero times NaN is NaN.
        finite = jnp.isfinite(leaf)
        lost = add((~finite).astype(jnp.float32)) > 0
        return jnp.where(lost, jnp.nan, add(jnp.where(finite, leaf, 0)))

    return ForgetStatistics(
        found,
        jnp.any(reach[:, :, None] & statistics.classes[None], axis=1),
        total,
        mean(statistics.predictions),
        mean(statistics.features),
        mean(statistics.own_logit),
    )
