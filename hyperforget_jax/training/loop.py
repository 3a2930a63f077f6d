"""The one training loop over minibatches: draws, gradients and updates, as a scan.

Training, the unlearners that optimise, and populations all run this loop.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax.base import Array, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training.minibatches import (
    active_epoch_length,
    epoch_length,
    epoch_order,
)
from hyperforget_jax.training.optimizers import check_optimizer, update

__all__ = [
    "Batch",
    "LoopInfo",
    "LoopState",
    "LossFn",
    "init",
    "run_segment",
    "run_steps",
]


class Batch(NamedTuple):
    """One minibatch.

    Attributes:
        examples: ``[B]`` examples. Weights are all one, since rows are drawn in
            proportion to weight; all zero if nothing is active.
        row: the examples' places in the data that they were drawn from, int32, ``[B]``.
        epoch: a number for each example, int32, ``[B]``, that is new whenever its row
            is drawn again (but for copies of a row that weighs more than one).
    """

    examples: Examples
    row: Array
    epoch: Array


LossFn = Callable[[Array, Variables, tuple[Batch, ...]], tuple[Array, Variables]]
"""``(key, variables, one batch a source) -> (scalar loss, new variables)``."""


class LoopState(NamedTuple):
    """Where training stands.

    Attributes:
        variables: the last finite variables.
        opt_state: the optimiser's state.
        failed_at: the step whose loss or update was not finite, int32, ``[]``; -1 if
            none. From there on the variables stay as they were.
    """

    variables: Variables
    opt_state: Any
    failed_at: Array


class LoopInfo(NamedTuple):
    """How training went.

    Attributes:
        loss: the loss before each step, ``[steps]``.
        failed_at: as in :class:`LoopState`.
    """

    loss: Array
    failed_at: Array


def init(variables: Variables, optimizer: optax.GradientTransformation) -> LoopState:
    """Make the state before the first step."""
    check_optimizer(optimizer, variables["params"])
    return LoopState(
        variables,
        optimizer.init(variables["params"]),
        jnp.full((), -1, jnp.int32),
    )


def run_steps(
    key: Array,
    loss_fn: LossFn,
    state: LoopState,
    sources: tuple[Examples, ...],
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    first_step: int | Array = 0,
    padded: tuple[bool, ...] = (),
    limit: Array | None = None,
) -> tuple[LoopState, Array]:
    """Take ``steps`` optimiser steps on ``params``, from wherever ``state`` stands.

    Draws and keys are functions of ``key`` and the absolute step, so training that is
    interrupted and continued takes the very steps of one that was not.

    Args:
        key: a typed key, the same for all segments of one training.
        loss_fn: scalar loss of one minibatch of each source.
        state: from :func:`init` or an earlier call.
        sources: examples to draw minibatches from, each on its own.
        optimizer: any optax optimiser.
        steps: how many, static.
        batch_size: rows a minibatch and source, static.
        first_step: the number of the first step. Under ``vmap`` over a population
            leave it unbatched: all members share one schedule of epochs.
        padded: which sources end in padding of an arbitrary length, static; by default
            none. An epoch of such a one is as long as its rows that count, so that the
            padding decides nothing.
        limit: steps from this number on change nothing, int32, ``[]``; None for all
            steps. The number of steps is static, and this is not.

    Returns:
        The state after the last step, and the loss before each step, ``[steps]``.
    """
    step_fn, orders = _step_fn(
        key, loss_fn, sources, optimizer, batch_size, first_step, padded, limit
    )
    numbers = first_step + jnp.arange(steps, dtype=jnp.int32)
    (state, _), losses = lax.scan(step_fn, (state, orders), numbers)
    return state, losses


def run_segment(
    key: Array,
    loss_fn: LossFn,
    state: LoopState,
    sources: tuple[Examples, ...],
    optimizer: optax.GradientTransformation,
    *,
    first_step: int | Array,
    last_step: int | Array,
    batch_size: int,
) -> tuple[LoopState, Array]:
    """Take the steps from ``first_step`` up to ``last_step``, which may be traced.

    One compilation serves segments of every length. Arguments as for
    :func:`run_steps`.

    Returns:
        The state after the last step, and the mean of the losses, float32, ``[]``.
    """
    step_fn, orders = _step_fn(
        key, loss_fn, sources, optimizer, batch_size, first_step, (), None
    )

    def body(step, carry):
        *carry, total = carry
        carry, loss = step_fn(tuple(carry), step)
        return *carry, total + loss.astype(jnp.float32)

    first_step, last_step = jnp.int32(first_step), jnp.int32(last_step)
    start = (state, orders, jnp.zeros((), jnp.float32))
    state, _, total = lax.fori_loop(first_step, last_step, body, start)
    return state, total / (last_step - first_step).astype(jnp.float32)


def _step_fn(
    key, loss_fn, sources, optimizer, batch_size, first_step, padded, limit
) -> tuple[Callable[..., Any], tuple[tuple[Array, Array], ...]]:
    """Make one step, as ``lax.scan`` takes it, and room for the orders it carries.

    An order has the rows of every minibatch of a source's epoch, and the epoch of
    every draw, int32, ``[batches, batch_size]`` both.
    """
    key_draw, key_step = jax.random.split(as_threefry(key))
    padded = padded or (False,) * len(sources)
    lengths = [epoch_length(source.y.shape[0], batch_size) for source in sources]
    # How many minibatches of the table an epoch consists of.
    used = [
        active_epoch_length(source.weight, batch_size) if is_padded else length
        for source, length, is_padded in zip(sources, lengths, padded, strict=True)
    ]
    there = [jnp.any(source.weight > 0).astype(jnp.int32) for source in sources]

    def order(source: int, epoch: Array) -> tuple[Array, Array]:
        rows, rounds = epoch_order(
            jax.random.fold_in(jax.random.fold_in(key_draw, source), epoch),
            sources[source].weight,
            lengths[source],
            batch_size,
            jnp.asarray(used[source]) if padded[source] else None,
        )
        # An epoch of the table goes through few active rows many times.
        return rows, epoch * (rounds[used[source] - 1, -1] + 1) + rounds

    def draw(source: int, carried, step: Array):
        epoch, within = step // used[source], step % used[source]
        # The schedule is the same for every member of a population, so that under vmap
        # this stays a branch and does not sort at every step. Not of padded sources,
        # whose schedule is their own: they are short.
        carried = lax.cond(
            (within == 0) | (step == first_step),
            functools.partial(order, source, epoch),
            lambda: carried,
        )
        row, epochs = (leaf[within] for leaf in carried)
        examples = sources[source].take(row)
        # Where nothing counts, row 0 was drawn, and is nobody's to read.
        x = jnp.where(there[source] > 0, examples.x, jnp.zeros_like(examples.x))
        weight = jnp.broadcast_to(there[source], row.shape)
        return Batch(examples._replace(x=x, weight=weight), row, epochs), carried

    def step_fn(carry, step):
        state, orders = carry
        drawn = map(draw, range(len(orders)), orders, [step] * len(orders))
        batches, orders = zip(*drawn, strict=True)

        def objective(params):
            variables = {**state.variables, "params": params}
            return loss_fn(jax.random.fold_in(key_step, step), variables, batches)

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
        return (LoopState(variables, opt_state, failed_at), orders), loss

    blank = tuple((jnp.zeros((size, batch_size), jnp.int32),) * 2 for size in lengths)
    return step_fn, blank


def _cast(new: Array, old: Array) -> Array:
    # An optimiser may keep keys, which have no other dtype.
    return new if new.dtype == old.dtype else new.astype(old.dtype)
