"""The members of a population: what each is given, and what it computes."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import loop
from hyperforget_jax.training.fit import Augment, training_loss
from hyperforget_jax.user_warnings import warn_user

__all__ = [
    "CrossEntropy",
    "Objective",
    "Program",
    "advance_all",
    "check_stacked",
    "check_weights",
    "checked_steps",
    "member_keys",
    "start_all",
    "warn_of_failures",
]

Objective = Callable[[Any, Any], loop.LossFn]
"""``(a member's condition, what all share) -> loss``, as the loop takes it."""


class Program(NamedTuple):
    """What one member computes; static, and equal ones hash alike."""

    classifier: Classifier
    optimizer: optax.GradientTransformation
    objective: Objective
    batch_size: int

    def start(self, x, key, start):
        """Make a member's key for its steps, and its state before the first."""
        key_init, key_loop = jax.random.split(key)
        variables = self.classifier.init(key_init, x) if start is None else start
        return key_loop, loop.init(variables, self.optimizer)

    def advance(
        self, key, state, condition, weight, data, shared, first_step, last_step
    ):
        """Take a member some steps further; also return its mean loss over them."""
        loss_fn = self.objective(condition, shared)
        if not callable(loss_fn):
            raise TypeError(
                "objective must give a loss, a function of (key, variables, batches); "
                f"got {type(loss_fn).__name__}."
            )
        return loop.run_segment(
            key,
            loss_fn,
            state,
            (data if weight is None else data._replace(weight=weight),),
            self.optimizer,
            first_step=first_step,
            last_step=last_step,
            batch_size=self.batch_size,
        )


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The objective of ``fit``; equal ones share their compilations."""

    classifier: Classifier
    augment: Augment | None

    def __call__(self, condition: Any, shared: Any) -> loop.LossFn:
        return training_loss(self.classifier, self.augment)


# Jitted once for the module: populations of equal programs share their compilations.
@functools.partial(jax.jit, static_argnums=0)
def start_all(program, x, keys, starts):
    """Start every member of a chunk."""
    return jax.vmap(program.start, (None, 0, 0))(x, keys, starts)


@functools.partial(jax.jit, static_argnums=0, static_argnames="mesh", donate_argnums=2)
def advance_all(program, keys, state, conditions, weights, *common, mesh=None):
    """Advance every member of a chunk, whose state's buffers are given away.

    On a mesh each device has members of its own: left to the compiler, convolutions of
    one model after the other would be computed by every device for all.
    """
    axes = (0, 0, 0, 0, *[None] * len(common))
    advance = jax.vmap(program.advance, axes)
    if mesh is not None:
        own, whole = PartitionSpec("population"), PartitionSpec()
        advance = jax.shard_map(
            advance,
            mesh=mesh,
            in_specs=(*[own] * 4, *[whole] * len(common)),
            out_specs=own,
            # The check refuses loops that start from constants, as ours do.
            check_vma=False,
        )
    return advance(keys, state, conditions, weights, *common)


def member_keys(key: Array, members: int) -> Array:
    """Derive a threefry key for each member, or take those given."""
    checks.check_key(key, shape=None)
    if key.shape not in ((), (members,)):
        raise ValueError(
            f"key must be one typed key or one for each of {members} members, got "
            f"shape {key.shape}."
        )
    if not key.ndim:
        # One after another: under vmap fold_in of unsafe_rbg is another function.
        number = jnp.arange(members)
        key = jax.lax.map(functools.partial(jax.random.fold_in, key), number)
    return as_threefry(key, shape=None)


def checked_steps(checkpoint_steps: Sequence[int], steps: int) -> tuple[int, ...]:
    """Return the steps as integers; raise unless they increase, in ``[1, steps]``."""
    try:
        given = tuple(checkpoint_steps)
    except TypeError as error:
        raise TypeError(
            f"checkpoint_steps must be a list of steps, got {checkpoint_steps!r}."
        ) from error
    for step in given:
        checks.check_sizes(checkpoint_steps=step)
    given = tuple(map(int, given))
    if list(given) != sorted({step for step in given if 0 < step <= steps}):
        raise ValueError(
            f"checkpoint_steps must increase and lie in [1, {steps}], got {given}."
        )
    return given


def check_weights(weights: Any, members: int, data: Examples) -> None:
    """Raise unless weights are None, or say of every member which rows it saw."""
    if weights is None:
        return
    shape = (members, data.y.shape[0])
    try:
        host = np.asarray(weights)
    except ValueError:  # Lists of several lengths are no array.
        host = None
    if host is None or host.shape != shape:
        raise ValueError(
            f"weights must have shape [members, N] = {shape}, got "
            f"{None if host is None else host.shape}."
        )
    if np.issubdtype(host.dtype, np.floating) and np.isnan(host).any():
        raise ValueError("weights must not be NaN.")
    if (host < 0).any():
        raise ValueError("weights must be non-negative.")
    if not np.issubdtype(host.dtype, np.integer):
        raise TypeError(f"weights must be integers, got dtype {host.dtype}.")
    checks.check_weights(host, "weights")
    empty = np.flatnonzero(~host.any(axis=1))
    if empty.size:
        raise ValueError(
            "weights must leave each member an example; all are zero for members "
            f"{empty[:10].tolist()}."
        )


def check_stacked(members: int, **stacked: Any) -> None:
    """Raise unless every leaf of the named trees has a first axis of the members."""
    for name, tree in stacked.items():
        for path, leaf in jax.tree.leaves_with_path(tree):
            if jnp.shape(leaf)[:1] != (members,):
                raise ValueError(
                    f"{name} must be stacked [members={members}, ...]; leaf "
                    f"{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}."
                )


def warn_of_failures(failed_at: np.ndarray) -> None:
    """Warn of members whose loss was not finite, by the step, ``[P]``; -1 is well."""
    failed = np.flatnonzero(failed_at >= 0)
    if failed.size:
        named = [f"member {m} at step {failed_at[m]}" for m in failed[:10]]
        more = ", ..." if failed.size > 10 else ""
        warn_user(
            f"The loss of {failed.size} of {failed_at.size} members is not finite; "
            f"they keep their last finite variables: {', '.join(named)}{more}.",
            RuntimeWarning,
        )
