"""The one minibatch loop: draws, gradients and updates, as a scan.

Training, the unlearners that optimise, and populations all run this loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax.base import Array, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training.minibatches import (
    active_pass_length,
    pass_length,
    pass_order,
)
from hyperforget_jax.training.optimizers import check_optimizer, update

__all__ = [
    "Batch",
    "DescentInfo",
    "DescentState",
    "LossFn",
    "Orders",
    "descend",
    "descend_on",
    "run",
    "start",
    "unfilled",
]

Orders = tuple[tuple[Array, Array], ...]
"""Of each source: the rows of every minibatch of a pass, and how often the source had
been gone through before, int32, ``[batches, batch size]`` both."""


class Batch(NamedTuple):
    """One minibatch.

    Attributes:
        examples: ``[B]`` rows. Weights are all one, since rows are drawn in
            proportion to weight; all zero if nothing is active.
        passed: a number for each row, int32, ``[B]``, that is new whenever the row is
            drawn again (but for copies of a row that weighs more than one).
    """

    examples: Examples
    passed: Array


LossFn = Callable[[Array, Variables, tuple[Batch, ...]], tuple[Array, Variables]]
"""``(key, variables, one batch a source) -> (scalar loss, new variables)``."""


class DescentState(NamedTuple):
    """Where a descent stands.

    Attributes:
        variables: the last finite variables.
        opt_state: the optimiser's state.
        failed_at: the step whose loss or update was not finite, int32, ``[]``; -1 if
            none. From there on the variables stay as they were.
    """

    variables: Variables
    opt_state: Any
    failed_at: Array


class DescentInfo(NamedTuple):
    """How a descent went.

    Attributes:
        loss: the loss before each step, ``[steps]``.
        failed_at: as in :class:`DescentState`.
    """

    loss: Array
    failed_at: Array


def run(
    key: Array,
    loss_fn: LossFn,
    variables: Variables,
    sources: tuple[Examples, ...],
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    padded: tuple[bool, ...] = (),
) -> tuple[Variables, DescentInfo]:
    """A whole descent: :func:`start`, then :func:`descend`; arguments as there."""
    state, loss = descend(
        key,
        loss_fn,
        start(variables, optimizer),
        sources,
        optimizer,
        steps=steps,
        batch_size=batch_size,
        padded=padded,
    )
    return state.variables, DescentInfo(loss, state.failed_at)


def start(
    variables: Variables, optimizer: optax.GradientTransformation
) -> DescentState:
    """The state before the first step."""
    check_optimizer(optimizer, variables["params"])
    return DescentState(
        variables,
        optimizer.init(variables["params"]),
        jnp.full((), -1, jnp.int32),
    )


def descend(
    key: Array,
    loss_fn: LossFn,
    state: DescentState,
    sources: tuple[Examples, ...],
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    first_step: int | Array = 0,
    padded: tuple[bool, ...] = (),
    limit: Array | None = None,
) -> tuple[DescentState, Array]:
    """Takes ``steps`` optimiser steps on ``params``, from wherever ``state`` stands.

    Draws and keys are functions of ``key`` and the absolute step, so a descent that
    is interrupted and continued takes the very steps of one that was not.

    Args:
        key: a typed key, the same for all segments of one descent.
        loss_fn: scalar loss of one minibatch of each source.
        state: from :func:`start` or an earlier call.
        sources: examples to draw minibatches from, each on its own.
        optimizer: any optax optimiser.
        steps: how many, static.
        batch_size: rows a minibatch and source, static.
        first_step: the number of the first step. Under ``vmap`` over a population
            leave it unbatched: all members share one schedule of passes.
        padded: which sources end in padding of an arbitrary length, static; by default
            none. A pass over such a one is as long as its rows that count, so that the
            padding decides nothing.
        limit: steps from this number on change nothing, int32, ``[]``; None for all
            steps. The number of steps is static, and this is not.

    Returns:
        The state after the last step, and the loss before each step, ``[steps]``.
    """
    orders = unfilled(sources, batch_size)
    (state, _), losses = descend_on(
        key,
        loss_fn,
        state,
        orders,
        sources,
        optimizer,
        steps=steps,
        batch_size=batch_size,
        first_step=first_step,
        is_dealt=False,
        padded=padded,
        limit=limit,
    )
    return state, losses


def unfilled(sources: tuple[Examples, ...], batch_size: int) -> Orders:
    """Room for the orders of :func:`descend_on`, to begin with."""
    lengths = [pass_length(source.y.shape[0], batch_size) for source in sources]
    return tuple(
        (jnp.zeros((length, batch_size), jnp.int32),) * 2 for length in lengths
    )


def descend_on(
    key: Array,
    loss_fn: LossFn,
    state: DescentState,
    orders: Orders,
    sources: tuple[Examples, ...],
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    first_step: int | Array,
    is_dealt: bool | Array,
    padded: tuple[bool, ...] = (),
    limit: Array | None = None,
) -> tuple[tuple[DescentState, Orders], Array]:
    """:func:`descend` in short segments, which need not order a pass anew each.

    Args:
        key: as for ``descend``, like all that is not named here.
        loss_fn: likewise.
        state: likewise.
        orders: the rows of the current pass, as the last segment gave them.
        sources: likewise.
        optimizer: likewise.
        steps: likewise.
        batch_size: likewise.
        first_step: likewise.
        is_dealt: whether ``orders`` are those of the pass of the first step. If not
            they are made again. Under ``vmap`` leave it unbatched too.
        padded: likewise.
        limit: likewise.

    Returns:
        The state and the orders after the last step, and the losses.
    """
    key_draw, key_step = jax.random.split(as_threefry(key))
    padded = padded or (False,) * len(sources)
    lengths = [pass_length(source.y.shape[0], batch_size) for source in sources]
    # How many minibatches of the table a pass consists of.
    used = [
        active_pass_length(source.weight, batch_size) if is_padded else length
        for source, length, is_padded in zip(sources, lengths, padded, strict=True)
    ]

    there = [jnp.any(source.weight > 0).astype(jnp.int32) for source in sources]

    def order(source: int, passed: Array) -> tuple[Array, Array]:
        key = jax.random.fold_in(jax.random.fold_in(key_draw, source), passed)
        weight = sources[source].weight
        rows, rounds = pass_order(
            key,
            weight,
            lengths[source],
            batch_size,
            jnp.asarray(used[source]) if padded[source] else None,
        )
        # A pass over the table goes through few active rows many times.
        return rows, passed * (rounds[used[source] - 1, -1] + 1) + rounds

    def body(carry, step):
        state, orders = carry
        batches, next_orders = [], []
        for index, (source, length) in enumerate(zip(sources, used, strict=True)):
            passed, within = step // length, step % length
            # The schedule is the same for every member of a population, so that
            # under vmap this stays a branch and does not sort at every step. Not of
            # padded sources, whose schedule is their own: they are short.
            dealt = lax.cond(
                (within == 0) | ((step == first_step) & ~is_dealt),
                lambda index=index, passed=passed: order(index, passed),
                lambda index=index: orders[index],
            )
            next_orders.append(dealt)
            rows, rounds = (leaf[within] for leaf in dealt)
            weight = jnp.broadcast_to(there[index], rows.shape)
            examples = source.take(rows)
            # Where nothing counts, row 0 was drawn, and is nobody's to read.
            x = jnp.where(there[index] > 0, examples.x, jnp.zeros_like(examples.x))
            examples = examples._replace(x=x, weight=weight)
            batches.append(Batch(examples, rounds))

        def objective(params):
            variables = {**state.variables, "params": params}
            return loss_fn(
                jax.random.fold_in(key_step, step), variables, tuple(batches)
            )

        params = state.variables["params"]
        (loss, variables), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = update(
            optimizer, objective, loss, grads, state.opt_state, params
        )
        variables = {**variables, "params": optax.apply_updates(params, updates)}

        # A sum is finite only if all of its terms are, short of an overflow that
        # nothing could be learnt after either.
        finite = jnp.isfinite(loss + optax.tree.sum(variables["params"]))
        within_limit = True if limit is None else step < limit
        going = (state.failed_at < 0) & finite & within_limit
        # In the dtypes they had: a model may make wider statistics of its own.
        variables, opt_state = jax.tree.map(
            lambda new, old: jnp.where(going, _cast(new, old), old),
            (variables, opt_state),
            (state.variables, state.opt_state),
        )
        failed_at = jnp.where(
            (state.failed_at < 0) & ~finite & within_limit, step, state.failed_at
        )
        state = DescentState(variables, opt_state, failed_at)
        return (state, tuple(next_orders)), loss

    is_dealt = jnp.asarray(is_dealt)
    numbers = first_step + jnp.arange(steps, dtype=jnp.int32)
    return lax.scan(body, (state, orders), numbers)


def _cast(new: Array, old: Array) -> Array:
    # An optimiser may keep keys, which have no other dtype.
    return new if new.dtype == old.dtype else new.astype(old.dtype)
