"""Change models by forget statistics: redistribute, dampen, reinitialise."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import trees
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    ForgetRequest,
    Variables,
)
from hyperforget_jax.fisher.fiun_config import FIUnConfig
from hyperforget_jax.fisher.forget_statistics import (
    ForgetStatistics,
    merge_statistics,
    own_logits,
    trace,
)
from hyperforget_jax.fisher.information import Fisher, dampen
from hyperforget_jax.models.head import (
    Head,
    centre_head,
    head_by_class,
    move_columns,
)

__all__ = ["UpdateInfo", "anything_asked", "if_asked", "update", "update_models"]


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
    own: Fisher | None,
    statistics: ForgetStatistics,
    fresh: Any,
    config: FIUnConfig,
    head: Head,
) -> tuple[Variables, UpdateInfo]:
    """Make one model forget. No examples are read.

    Args:
        variables: the model's.
        own: the Fisher of its own training data.
        statistics: what reaches it, see ``on_scale`` and ``merge_statistics``.
        fresh: newly made parameters of the model, for ``reinitialise``.
        config: of FIUn.
        head: the model's last layer.

    Returns:
        The variables, and how they were changed.

    Raises:
        ValueError: Fishers of different kinds, or that do not fit the parameters.
    """
    params = variables["params"]
    classes = statistics.classes
    kernel, bias = head_by_class(variables, head, classes.shape[-1])
    known = statistics.own_logit > 0
    ratio = own_logits(kernel, bias, statistics.features) / jnp.where(
        known, statistics.own_logit, 1
    )
    held = jnp.where(classes & known, jnp.clip(ratio, 0, 1), 0)
    if config.centre_head:
        left = ~(classes | variables.get(OUTPUT_MASK, False))
        # Of the classes that are left, so that a dampened one falls behind the best of
        # them; of all, where none is.
        left = left[jnp.asarray(head.columns)]
        params = centre_head(params, head.path, left | ~jnp.any(left))
    if config.redistributes:
        shares = _shares(statistics, held) * config.redistribution
        params = _redistribute(params, kernel, bias, shares, head)
    dampened = jnp.zeros(())
    if statistics.fisher is not None and own is not None:
        params, dampened = _dampen(
            params, own, statistics.fisher, classes, config, head
        )
    changed = {**variables, "params": params}
    if config.reinitialise:
        changed = _reinitialise(changed, classes, fresh, head)
    return changed, UpdateInfo(dampened, held)


def anything_asked(requests: Mapping[str, ForgetRequest]) -> Array:
    """Return whether any request names a class, or a row that is there."""
    return jnp.any(
        jnp.stack(
            [
                jnp.any(request.classes) | jnp.any(request.forget.weight > 0)
                for request in requests.values()
            ]
        )
    )


def if_asked(
    asked: Array,
    change: Callable[..., tuple[Variables, UpdateInfo]],
    variables: Variables,
    own: Fisher | None,
    gone: Array | None,
) -> tuple[Variables, UpdateInfo, Array | None]:
    """Change models if anything is asked for, and leave them as they are if not.

    ``gone`` is given back, or zeros: so what is taken out of the Fishers waits for the
    conditional, which has then read them. XLA writes both in place in a donated state.
    Were the two independent, it would copy the Fishers first.

    Args:
        asked: bool, ``[]``.
        change: takes ``variables`` and ``own``; see :func:`update_models`.
        variables: stacked, ``[M, ...]``.
        own: the models' Fishers, stacked.
        gone: what is taken out of them by root, ``[M, J]``.

    Returns:
        The variables, how they were changed, and ``gone``.
    """

    def answer(variables, own, gone):
        return *change(variables, own), gone

    def leave(variables, own, gone):
        info = jax.eval_shape(change, variables, own)[1]
        info, gone = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (info, gone)
        )
        return variables, info, gone

    return lax.cond(asked, answer, leave, variables, own, gone)


def update_models(
    variables: Variables,
    own: Fisher | None,
    *,
    key: Array,
    statistics: ForgetStatistics,
    reach: Array,
    blank: Array,
    classifier: Classifier,
    config: FIUnConfig,
    head: Head,
) -> tuple[Variables, UpdateInfo]:
    """Change M models by what reaches them; who is not reached stays.

    Args:
        variables: stacked, ``[M, ...]``.
        own: the models' Fishers, stacked.
        key: to draw from, for ``reinitialise``.
        statistics: of J roots, stacked, see ``on_scale``.
        reach: which roots reach which model, bool, ``[M, J]``.
        blank: an example to make a model for, ``[1, ...]``.
        classifier: the models.
        config: of FIUn.
        head: the models' last layer.
    """

    def change(key, variables, own, reaching, reached):
        fresh = classifier.init(key, blank)["params"]
        new, info = update(variables, own, reaching, fresh, config, head)
        # What is not changed is given back as it is: a donated state keeps it.
        new = jax.tree.map(
            lambda n, o: o if n is o else jnp.where(reached, n, o), new, variables
        )
        return new, jax.tree.map(lambda leaf: jnp.where(reached, leaf, 0), info)

    return jax.vmap(change)(
        jax.random.split(key, reach.shape[0]),
        variables,
        own,
        merge_statistics(statistics, reach),
        jnp.any(reach, axis=1),
    )


def _shares(statistics: ForgetStatistics, held: Array) -> Array:
    """How much of each class's column goes to each other one's, ``[C, C]``."""
    likely = jnp.where(statistics.classes[None, :], 0, statistics.predictions)
    total = jnp.sum(likely, axis=1, keepdims=True)
    return held[:, None] * likely / jnp.where(total > 0, total, 1)


def _redistribute(params, kernel, bias, shares, head: Head):
    product = jnp.matmul(
        jnp.concatenate([kernel, bias[None]]), shares, precision=lax.Precision.HIGHEST
    )
    more = move_columns(product, range(shares.shape[0]), head.columns)
    old = trees.get(params, head.path)
    new = {**old, "kernel": old["kernel"] + more[:-1].astype(old["kernel"].dtype)}
    if "bias" in old:
        new["bias"] = old["bias"] + more[-1].astype(old["bias"].dtype)
    return trees.replace(params, head.path, new)


def _dampen(params, own, forget, classes, config: FIUnConfig, head: Head):
    if config.match_trace:
        values = jax.tree.map(lambda f, d: f * trace(d), forget.values, own.values)
        forget = dataclasses.replace(forget, values=values)
    terms = {"alpha": config.alpha, "strength": config.strength}
    if not config.columns_only:
        return dampen(params, forget, own, **terms)
    wanted = classes[jnp.asarray(head.columns)]
    # A request for rows has no classes, and is not bound to columns.
    unbound = jnp.broadcast_to(~jnp.any(classes), wanted.shape)
    of_head = (
        dataclasses.replace(each, values=trees.restrict(each.values, (head.path,)))
        for each in (forget, own)
    )
    params, first = dampen(params, *of_head, **terms, columns=wanted, head=head.path)
    params, second = dampen(
        params,
        forget,
        own,
        alpha=config.deep_alpha,
        strength=config.deep_strength,
        columns=unbound,
        head=head.path,
    )
    return params, first + second


def _reinitialise(variables, classes: Array, fresh: Any, head: Head) -> Variables:
    """Columns as if the classes had never been heard of, behind a mask."""
    gone = classes[jnp.asarray(head.columns)]
    params = variables["params"]
    drawn = jax.tree.map(
        lambda new, old: jnp.where(
            gone.reshape(*[1] * (old.ndim - 1), -1), new.astype(old.dtype), old
        ),
        trees.get(fresh, head.path),
        trees.get(params, head.path),
    )
    mask = variables.get(OUTPUT_MASK, jnp.zeros(classes.shape, bool))
    return {
        **variables,
        "params": trees.replace(params, head.path, drawn),
        OUTPUT_MASK: mask | classes,
    }
