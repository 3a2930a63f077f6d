"""One model changed by an impression: fold, dampen, renew."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import fisher, trees
from hyperforget_jax.base import OUTPUT_MASK, Array, Variables
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.inheritance.impressions import (
    Impression,
    levels,
    trace,
)
from hyperforget_jax.inheritance.rules import Rule
from hyperforget_jax.models.head import (
    Head,
    centre_head,
    head_by_class,
    move_columns,
)

__all__ = ["UpdateInfo", "update"]


class UpdateInfo(NamedTuple):
    """How a model was changed.

    Attributes:
        dampened: share of the parameters that were dampened, float32, ``[]``.
        held: how much of each requested class the model still held, measured against
            the roots, float32 in [0, 1], ``[C]``; zero for other classes.
    """

    dampened: Array
    held: Array


def update(
    variables: Variables,
    data_fisher: Fisher | None,
    impression: Impression,
    fresh: Any,
    rule: Rule,
    head: Head,
) -> tuple[Variables, UpdateInfo]:
    """Makes one model forget. It reads no examples.

    Args:
        variables: the model's.
        data_fisher: the cached Fisher of its own training data.
        impression: what reaches it, with the Fisher on the rule's scale.
        fresh: newly made parameters of the model, for ``rule.renew``.
        rule: the rule.
        head: the model's last layer.

    Returns:
        The variables, and how they were changed.

    Raises:
        ValueError: Fishers of different kinds, or that do not fit the parameters.
    """
    params = variables["params"]
    classes = impression.classes
    num_classes = classes.shape[-1]
    kernel, bias = head_by_class(variables, head, num_classes)
    level = jnp.where(impression.level > 0, impression.level, 1)
    known = levels(kernel, bias, impression.features) / level
    known = jnp.where(impression.level > 0, known, 0)
    held = jnp.where(classes, jnp.clip(known, 0, 1), 0)
    if rule.centre:
        left = ~(classes | variables.get(OUTPUT_MASK, False))
        # Of the classes that are left, so that a dampened one falls behind the best of
        # them; of all, where none is.
        left = left[jnp.asarray(head.columns)]
        params = centre_head(params, head.path, left | ~jnp.any(left))
    if rule.folds:
        coefficients = _folding(impression, held) * rule.fold
        params = _fold(params, kernel, bias, coefficients, head)
    dampened = jnp.zeros(())
    if impression.fisher is not None:
        params, dampened = _dampen(
            params, data_fisher, impression.fisher, classes, rule, head
        )
    changed = {**variables, "params": params}
    if rule.renew:
        changed = _renew(changed, classes, fresh, head)
    return changed, UpdateInfo(dampened, held)


def _folding(impression: Impression, held: Array) -> Array:
    """How much of each class's column goes to each other one's, ``[C, C]``."""
    likely = jnp.where(impression.classes[None, :], 0, impression.answers)
    total = jnp.sum(likely, axis=1, keepdims=True)
    return held[:, None] * likely / jnp.where(total > 0, total, 1)


def _fold(params, kernel, bias, coefficients, head: Head):
    product = jnp.matmul(
        jnp.concatenate([kernel, bias[None]]),
        coefficients,
        precision=lax.Precision.HIGHEST,
    )
    num_classes = coefficients.shape[0]
    more = move_columns(product, range(num_classes), head.columns)
    old = trees.get(params, head.path)
    new = {**old, "kernel": old["kernel"] + more[:-1].astype(old["kernel"].dtype)}
    if "bias" in old:
        new["bias"] = old["bias"] + more[-1].astype(old["bias"].dtype)
    return trees.replace(params, head.path, new)


def _dampen(params, data_fisher, forget, classes, rule: Rule, head: Head):
    if data_fisher is None:
        raise ValueError(
            "The model has no cached Fisher to compare with: register the graph under "
            "the same rule while its training data are there."
        )
    if rule.match:
        values = jax.tree.map(
            lambda f, d: f * trace(d), forget.values, data_fisher.values
        )
        forget = dataclasses.replace(forget, values=values)
    if not rule.only_columns:
        terms = {"alpha": rule.alpha, "strength": rule.strength}
        return fisher.dampen(params, forget, data_fisher, **terms)
    wanted = classes[jnp.asarray(head.columns)]
    # A request for rows has no classes, and is not bound to columns.
    unbound = jnp.broadcast_to(~jnp.any(classes), wanted.shape)
    of_head = (
        dataclasses.replace(each, values=fisher.restrict(each.values, (head.path,)))
        for each in (forget, data_fisher)
    )
    params, first = fisher.dampen(
        params,
        *of_head,
        alpha=rule.alpha,
        strength=rule.strength,
        columns=wanted,
        head=head.path,
    )
    params, second = fisher.dampen(
        params,
        forget,
        data_fisher,
        alpha=rule.deep_alpha,
        strength=rule.deep_strength,
        columns=unbound,
        head=head.path,
    )
    return params, first + second


def _renew(variables: Variables, classes: Array, fresh: Any, head: Head) -> Variables:
    """Columns as if the classes had never been heard of, behind a mask."""
    gone = classes[jnp.asarray(head.columns)]
    params = variables["params"]
    renewed = jax.tree.map(
        lambda new, old: jnp.where(
            gone.reshape(*[1] * (old.ndim - 1), -1), new.astype(old.dtype), old
        ),
        trees.get(fresh, head.path),
        trees.get(params, head.path),
    )
    mask = variables.get(OUTPUT_MASK, jnp.zeros(classes.shape, bool))
    return {
        **variables,
        "params": trees.replace(params, head.path, renewed),
        OUTPUT_MASK: mask | classes,
    }
