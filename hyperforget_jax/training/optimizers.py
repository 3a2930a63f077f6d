"""Optimisers: which ones the training loop takes, and what it gives them."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax.base import Array

__all__ = ["check_optimizer", "update"]

Objective = Callable[[Any], tuple[Array, Any]]
"""``params -> (scalar loss, whatever else)``, on the minibatch of the step."""


def update(
    optimizer: optax.GradientTransformation,
    objective: Objective,
    loss: Array,
    grads: Any,
    opt_state: Any,
    params: Any,
) -> tuple[Any, Any]:
    """Compute an optimiser's updates, giving it whatever optimisers ask for.

    Line searches evaluate the loss anew, ``reduce_on_plateau`` and Polyak steps want
    its value, sharpness-aware minimisation its gradient elsewhere. Plain optimisers
    get the gradients alone.
    """
    transform = optax.with_extra_args_support(optimizer)
    extra: dict[str, Any] = {
        "value": loss,
        "grad": grads,
        "value_fn": lambda params: objective(params)[0],
    }
    # Line searches refuse what neither they nor value_fn take.
    if _nodes(opt_state, optax.contrib.SAMState):
        grad_fn = jax.grad(objective, has_aux=True)
        extra["grad_fn"] = lambda params, _: grad_fn(params)[0]
    known = inspect.signature(transform.update).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        extra = {name: value for name, value in extra.items() if name in known}
    return transform.update(grads, opt_state, params, **extra)


def check_optimizer(
    optimizer: optax.GradientTransformation, params: Any = None
) -> None:
    """Raise unless the optimiser is one that the minibatch loop can run.

    Nothing is computed: one update of ``params`` is evaluated abstractly; of None its
    kind alone is looked at. Refused are optimisers that want something the loop does
    not have, whose state changes its kind from step to step, or whose parameters are
    not the model they stand for.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        remedy = ""
        if isinstance(optimizer, optax.MultiSteps):
            remedy = ": give its .gradient_transformation()"
        raise TypeError(
            "optimizer must be an optax.GradientTransformation, such as "
            f"optax.adam(1e-3); got {type(optimizer).__name__}{remedy}."
        )
    if params is None:
        return

    def objective(params):
        total = sum(map(jnp.sum, jax.tree.leaves(params)), start=jnp.zeros(()))
        return total.astype(jnp.float32), None

    def two_states(params):
        state = optimizer.init(params)
        (loss, _), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, later = update(optimizer, objective, loss, grads, state, params)
        return state, later, optax.apply_updates(params, updates)

    try:
        state, later, moved = jax.eval_shape(two_states, params)
    except Exception as error:
        raise ValueError(
            "optimizer cannot be run by a loop over minibatches, which gives it "
            f"gradients, value, grad and value_fn: {error}"
        ) from error
    _check_leaves_models(state)
    if not (_goes_on(state, later) and _goes_on(params, moved)):
        raise ValueError(
            "optimizer must keep the structure, the shapes and the dtypes of its state "
            "and of the parameters from step to step, and does not: its state is "
            f"{jax.tree.structure(state)} first and {jax.tree.structure(later)} later."
        )


def _check_leaves_models(state: Any) -> None:
    """Raise for optimisers whose parameters are not the model that was learnt."""
    if _nodes(state, optax.contrib.ScheduleFreeState):
        raise ValueError(
            "optimizer is schedule-free: its parameters are where gradients are taken, "
            "and the model would have to be read off its state. Use one with a "
            "schedule, such as optax.adam(optax.cosine_decay_schedule(1e-3, steps))."
        )
    if any(node.cache is not None for node in _nodes(state, optax.contrib.SAMState)):
        raise ValueError(
            "optimizer leaves adversarial parameters between its steps: make it by "
            "optax.contrib.sam(..., opaque_mode=True)."
        )


def _nodes(tree: Any, kind: type) -> list[Any]:
    """Find the outermost nodes of a tree that are of a kind."""

    def is_one(node):
        return isinstance(node, kind)

    return [node for node in jax.tree.leaves(tree, is_leaf=is_one) if is_one(node)]


def _goes_on(now: Any, later: Any) -> bool:
    """Tell whether a loop can carry the one in the place of the other."""
    if jax.tree.structure(now) != jax.tree.structure(later):
        return False
    return all(
        one.shape == other.shape
        # Keys have dtypes that promote to none.
        and (
            one.dtype == other.dtype
            or jnp.promote_types(one.dtype, other.dtype) == one.dtype
        )
        for one, other in zip(jax.tree.leaves(now), jax.tree.leaves(later), strict=True)
    )
