"""What a root model hands to its descendants about the data to be forgotten.

Statistics alone: no example leaves the root, and no descendant needs its own again.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import fisher
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Variables,
)
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.inheritance.rules import Rule
from hyperforget_jax.microbatch import batch_rows
from hyperforget_jax.models.head import Head, head_by_class

__all__ = [
    "Impression",
    "impress",
    "levels",
    "measure",
    "merge_impressions",
    "on_scale",
    "trace",
]

_NORMAL = jnp.finfo(jnp.float32).tiny


class Impression(NamedTuple):
    """What is to be forgotten, as the root sees it.

    Attributes:
        fisher: diagonal Fisher of the forget data at the root's variables; None if the
            rule dampens nothing.
        classes: the requested classes, bool, ``[C]``.
        mass: how much of the forget data is of each class, float32, ``[C]``.
        answers: what the root answers on the forgotten examples of each class if the
            requested classes may not be answered, float32, ``[C, C]``: mean
            probabilities.
        features: the head's mean input on them, float32, ``[C, d]``.
        level: the root's mean centred logit of each class on its forgotten examples,
            float32, ``[C]``: how well it knows them.
    """

    fisher: Fisher | None
    classes: Array
    mass: Array
    answers: Array
    features: Array
    level: Array


def levels(kernel: Array, bias: Array, features: Array) -> Array:
    """The mean logit of each class on its own examples, float32, ``[C]``."""
    product = jnp.einsum("cd,dc->c", features, kernel, precision=lax.Precision.HIGHEST)
    return (product + bias).astype(jnp.float32)


def measure(
    classifier: Classifier, variables: Variables, data: Examples, rule: Rule, head: Head
) -> Fisher | None:
    """The Fisher that a rule compares with, of some examples; None if it needs none.

    Args:
        classifier: the model.
        variables: its variables.
        data: examples, ``[N]``.
        rule: whose estimator, batch size and scope count.
        head: the last layer.
    """
    if rule.scope == "none":
        return None
    # Never less than one minibatch, whose size is part of what the Fisher is.
    size = max(rule.batch_size, data.y.shape[0])
    return fisher.diagonal(
        classifier,
        variables,
        data.take(jnp.arange(size)),
        estimator=rule.estimator,
        batch_size=rule.batch_size,
        scope=(head.path,) if rule.scope == "head" else None,
    )


def impress(
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    rule: Rule,
    head: Head,
) -> Impression:
    """Takes a root's impression. It reads the forget data alone.

    Args:
        classifier: the root's model.
        variables: the root's variables.
        request: what it is to forget.
        rule: the rule.
        head: the root's last layer.
    """
    forget, taps = request.forget, classifier.taps
    if taps is None:
        raise ValueError("The classifier has no taps: make it with hf.from_linen.")
    num_classes = request.classes.shape[-1]
    kernel, bias = head_by_class(variables, head, num_classes)
    suppressed = {
        **variables,
        OUTPUT_MASK: variables.get(OUTPUT_MASK, jnp.zeros(num_classes, bool))
        | request.classes,
    }
    rows = batch_rows(forget.y.shape[0], rule.batch_size)

    def of_batch(rows):
        batch = forget.take(rows)
        chosen = jax.nn.one_hot(batch.y, num_classes, dtype=jnp.float32)
        chosen = chosen * batch.weight[:, None].astype(jnp.float32)
        (tap,) = taps(variables, batch.x)[head.path]
        answers = jax.nn.softmax(classifier.apply(suppressed, batch.x))
        # Chosen, not multiplied by zero: zero times NaN is NaN.
        there = batch.weight[:, None] > 0
        answers, given = (
            jnp.where(there, each, 0).astype(jnp.float32)
            for each in (answers, tap.input)
        )
        highest = {"precision": lax.Precision.HIGHEST}
        return (
            jnp.sum(chosen, axis=0),
            jnp.matmul(chosen.T, answers, **highest),
            jnp.matmul(chosen.T, given, **highest),
        )

    mass, answers, features = jax.tree.map(
        lambda leaf: jnp.sum(leaf, axis=0), lax.map(of_batch, rows)
    )
    share = jnp.where(mass > 0, 1 / jnp.where(mass > 0, mass, 1), 0)[:, None]
    answers, features = answers * share, features * share
    return Impression(
        measure(classifier, variables, forget, rule, head),
        request.classes,
        mass,
        answers,
        features,
        levels(kernel, bias, features),
    )


def on_scale(impression: Impression, own: Fisher | None, rule: Rule) -> Impression:
    """The impression with its Fisher on the scale that the rule compares on.

    Args:
        impression: a root's.
        own: the root's cached Fisher of its training data.
        rule: the rule.

    Raises:
        ValueError: Fishers of different kinds.
    """
    if impression.fisher is None:
        return impression
    if own is None:
        raise ValueError(
            "The root has no cached Fisher to compare with: register the graph under "
            "the same rule while its training data are there."
        )
    fisher.check_comparable(impression.fisher, own)
    values = impression.fisher.values
    if rule.shares:
        share = jnp.sum(impression.mass) / jnp.where(own.mass > 0, own.mass, 1)
        values = jax.tree.map(lambda leaf: leaf * share, values)
    if rule.match:
        values = jax.tree.map(lambda f, d: f / trace(d), values, own.values)
    scaled = dataclasses.replace(impression.fisher, values=values)
    return impression._replace(fisher=scaled)


def trace(leaf: Array) -> Array:
    """The sum of a Fisher's leaf, or one where that is nothing."""
    total = jnp.sum(leaf)
    return jnp.where(total >= _NORMAL, total, 1)


def merge_impressions(impressions: Impression, reach: Array, rule: Rule) -> Impression:
    """What reaches each model: impressions merged over its ancestors among the roots.

    Fishers by the rule (a maximum, if nothing else is said), the rest by mass.

    Args:
        impressions: stacked, leaves ``[J, ...]``. What reaches nobody may be anything,
            NaN too.
        reach: which roots reach which model, bool, ``[M, J]``.
        rule: the rule.

    Returns:
        Impressions stacked ``[M, ...]``; zero where nothing reaches.
    """
    found = impressions.fisher
    if found is not None:
        found = fisher.merge(found, how=rule.merge, reach=reach)
    weight = reach[:, :, None] * impressions.mass[None]  # [M, J, C]
    mass = jnp.sum(weight, axis=1)
    weight = weight / jnp.where(mass > 0, mass, 1)[:, None]

    def mean(leaf):
        def add(given):
            return jnp.einsum(
                "mjc,jc...->mc...", weight, given, precision=lax.Precision.HIGHEST
            )

        # What does not reach a model may be anything: zero times NaN is NaN.
        finite = jnp.isfinite(leaf)
        lost = add((~finite).astype(jnp.float32)) > 0
        return jnp.where(lost, jnp.nan, add(jnp.where(finite, leaf, 0)))

    return Impression(
        found,
        jnp.any(reach[:, :, None] & impressions.classes[None], axis=1),
        mass,
        mean(impressions.answers),
        mean(impressions.features),
        mean(impressions.level),
    )
