"""Many classifiers at once: ``fit`` under ``vmap``, in chunks that fit the memory.

The same primitive makes retrained oracles, zoos of checkpoints and shadow models.
This file is the host's outer loop over chunks and segments; what runs on the device
is :func:`hyperforget_jax.training.descent.descend`, and what is on disk belongs to
:mod:`hyperforget_jax.training.resuming`.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from hyperforget_jax import checkpointing, checks, files, sharding
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.memory import members_at_once
from hyperforget_jax.training import descent, resuming
from hyperforget_jax.training.fitting import Augment, training_loss
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["Objective", "Population", "fit_population"]

Objective = Callable[[Any, Any], descent.LossFn]
"""``(a member's condition, what all share) -> loss``, as ``descend`` takes it."""

# A segment of as many strides spends little on the way to the device and back.
_MOST_STRIDES = 16


class Population(NamedTuple):
    """Trained classifiers, stacked.

    Attributes:
        variables: final variables, leaves ``[P, ...]``.
        checkpoints: variables after each of ``checkpoint_steps``, NumPy leaves
            ``[P, K, ...]`` in the host's memory, since a zoo may be larger than a
            device's; None if none were asked for.
        checkpoint_steps: how many steps each checkpoint had taken, int32, ``[K]``.
        loss: mean training loss over the last segment, ``[P]``.
        failed_at: the step at which a member's loss was not finite, int32, ``[P]``;
            -1 for members that are well. A failed member keeps its last finite
            variables.
    """

    variables: Variables
    checkpoints: Variables | None
    checkpoint_steps: Array
    loss: Array
    failed_at: Array


def fit_population(
    key: Array,
    classifier: Classifier,
    data: Examples,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    members: int,
    weights: Array | None = None,
    starts: Variables | None = None,
    batch_size: int = 128,
    augment: Augment | None = None,
    objective: Objective | None = None,
    conditions: Any = (),
    shared: Any = (),
    checkpoint_steps: Sequence[int] = (),
    chunk_size: int | None = None,
    segment_steps: int | None = None,
    directory: str | Path | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Population:
    """Trains a population: :func:`hyperforget_jax.fit` over keys, weights and starts.

    Member ``m`` is trained with ``fold_in(key, m)``, or with ``key[m]``, whatever the
    implementation of the key. The same
    member in a chunk of another size, or on other hardware, differs in the last bits:
    chunk size and segments are recorded in ``directory``, and a resumed run uses the
    recorded ones.

    Args:
        key: a typed key, consumed; or one for each member, ``[P]``, for members that
            are to see the same draws.
        classifier: the model.
        data: training examples, ``[N]``, shared by all members.
        optimizer: any optax optimiser.
        steps: minibatches for each member.
        members: P.
        weights: who saw which rows, integers, ``[P, N]``, the sum of each row within
            int32; by default ``data.weight``.
        starts: variables to start from, leaves ``[P, ...]``; by default fresh ones.
        batch_size: rows a minibatch.
        augment: as for ``fit``.
        objective: ``(condition, shared) -> loss_fn``, what each member minimises, as
            :func:`hyperforget_jax.training.descend` takes it; by default the mean
            cross-entropy of a minibatch. It takes care of augmentation itself.
        conditions: arrays that make one member's objective differ from another's,
            leaves ``[P, ...]``.
        shared: arrays that the objectives of all members read.
        checkpoint_steps: steps, in ``[1, steps]``, after which variables are kept.
        chunk_size: members trained at once; by default as many as the memory budget
            of the device holds.
        segment_steps: steps between two returns to the host, where files are written
            and progress is shown; 250 by default.
        directory: where to keep the run's state. A run that was killed and is called
            again with the same arguments goes on from there, and ends bit-identical
            to one that was not, on the same kind of machine.
        mesh: with a ``population`` axis, on which the members of a chunk are sharded.
        progress: whether to show a progress bar.

    Returns:
        The population. Members that failed are named in a warning and flagged.

    Raises:
        TypeError, ValueError: malformed arguments, or a ``directory`` that holds a run
            begun with other ones.
        BlockingIOError: another run is at work in ``directory``.
    """
    check_optimizer(optimizer)
    checks.check_sizes(steps=steps, members=members, batch_size=batch_size)
    for name, size in (("chunk_size", chunk_size), ("segment_steps", segment_steps)):
        if size is not None:
            checks.check_sizes(**{name: size})
    if mesh is not None:
        sharding.check_mesh(mesh, "population")
    checks.check_is_examples(data)
    if directory is not None:
        directory = files.local_path("directory", directory)
    for name, function in (("augment", augment), ("objective", objective)):
        if function is not None:
            checks.check_is_function("a function", **{name: function})
    checks.check_is((bool, np.bool_), "True or False", progress=progress)
    checks.check_arrays(
        starts=starts, weights=weights, conditions=conditions, shared=shared
    )
    starts = jax.tree.map(jnp.asarray, starts)
    one_start = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), starts
    )
    num_classes = checks.check_classifier(classifier, one_start, data.x, name="starts")
    checks.check_axes(starts=starts, weights=weights, conditions=conditions)
    checks.check_examples(data, num_classes=num_classes)
    _check_stacked(members, data, weights, starts, conditions)
    if objective is not None and augment is not None:
        raise ValueError("augment goes unused with an objective: let that augment.")
    keys = _keys(key, members)
    weights = None if weights is None else jnp.asarray(weights, jnp.int32)
    checkpoint_steps = _checked_steps(checkpoint_steps, steps)
    conditions, shared = jax.tree.map(jnp.asarray, (conditions, shared))
    if objective is None:
        objective = _cross_entropy(classifier, augment)
    begin = functools.partial(_begin, classifier, optimizer)
    advance = functools.partial(_advance, optimizer, objective, batch_size)
    orders = descent.unfilled((data,), batch_size)
    one_condition = jax.tree.map(lambda leaf: leaf[0], conditions)
    to_begin = (data.x, keys[0], one_start)
    shapes = (
        *jax.eval_shape(begin, *to_begin),
        orders,
        one_condition,
        data.weight,
        data,
        shared,
    )

    def one_step(key, state, orders, condition, weight, data, shared):
        return advance(1, key, state, orders, condition, weight, data, shared, 0, False)

    devices = 1 if mesh is None else mesh.shape["population"]
    stored = resuming.stored_recipe(directory)
    chunk_size = chunk_size or stored.get("chunk_size")
    if not chunk_size:
        leaves = jax.tree.leaves(shapes[1])
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        chunk_size = members_at_once(
            members, one_step, *shapes, held=held, devices=devices
        )
    segment_steps = segment_steps or stored.get("segment_steps", 250)
    recipe = {}
    if directory is not None:
        recipe = {
            "key": resuming.key_of(key),
            "classifier": classifier.description,
            "numerics": resuming.numerics(),
            "begin": resuming.program_digest(begin, *to_begin),
            "program": resuming.program_digest(one_step, *shapes),
            "data": checkpointing.digest(data),
            "weights": weights if weights is None else checkpointing.digest(weights),
            "starts": starts if starts is None else checkpointing.digest(starts),
            "conditions": checkpointing.digest(conditions),
            "shared": checkpointing.digest(shared),
            "steps": steps,
            "members": members,
            "batch_size": batch_size,
            "checkpoint_steps": list(checkpoint_steps),
            "chunk_size": chunk_size,
            "segment_steps": segment_steps,
            "device": jax.devices()[0].device_kind,
            "devices": devices,
        }
        resuming.check_recipe(directory, stored, recipe)

    def place(tree):
        return tree if mesh is None else sharding.shard(tree, mesh, "population")

    if mesh is not None:
        data, shared = sharding.replicate((data, shared), mesh)
    ends = sorted({*range(0, steps, segment_steps), *checkpoint_steps, steps} - {0})
    stride = _stride(ends)

    def run_chunk(index: int, advanced) -> tuple[resuming.Chunk, Variables | None]:
        # The last chunk is filled up with members of the first, dropped afterwards, so
        # that all chunks share a compilation.
        chosen = (index * chunk_size + np.arange(chunk_size)) % members
        stacked = (keys, starts, conditions, weights)
        chunk_keys, start, condition, weight = place(
            jax.tree.map(lambda leaf: leaf[chosen], stacked)
        )
        descent_keys, state = _begin_all(
            classifier, optimizer, data.x, chunk_keys, start
        )
        fresh = resuming.Chunk(state, jnp.zeros(chunk_size))
        begun, chunk = resuming.load_chunk(directory, index, fresh, recipe)
        kept = [
            resuming.load_kept(directory, index, chunk.state.variables, step, recipe)
            for step in checkpoint_steps
            if directory is not None and step <= begun
        ]
        chunk = chunk._replace(state=place(chunk.state))
        advanced(begun)
        dealt, is_dealt = place(_for_all(orders, chunk_size)), False
        for end in [end for end in ends if end > begun]:
            losses = []
            for first in range(begun, end, stride or end - begun):
                (state, dealt), loss = _advance_all(
                    optimizer,
                    objective,
                    batch_size,
                    stride or end - begun,
                    descent_keys,
                    chunk.state,
                    dealt,
                    condition,
                    weight,
                    data,
                    shared,
                    first,
                    is_dealt,
                )
                chunk, is_dealt = chunk._replace(state=state), True
                losses.append(loss)
            chunk = chunk._replace(loss=jnp.mean(jnp.stack(losses), axis=0))
            if end in checkpoint_steps:
                kept.append(chunk.state.variables)
                resuming.save_kept(directory, index, kept[-1], end, recipe)
                # The state's buffers are given away to the next segment.
                kept[-1] = jax.tree.map(np.array, kept[-1])
            # After the checkpoint: a chunk that is found has all that came before.
            resuming.save_chunk(directory, index, chunk, end, recipe)
            advanced(end - begun)
            begun = end
        stacked = (
            jax.tree.map(lambda *leaves: np.stack(leaves, 1), *kept) if kept else None
        )
        return jax.tree.map(np.asarray, (chunk, stacked))

    num_chunks = -(-members // chunk_size)
    with (
        files.owned(directory),
        Progress(disable=not progress, transient=True) as bar,
    ):
        task = bar.add_task(f"{members} classifiers", total=num_chunks * steps)
        chunks = [
            run_chunk(index, lambda count: bar.advance(task, count))
            for index in range(num_chunks)
        ]

    chunk, checkpoints = jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:members], *chunks
    )
    _warn_of_failures(chunk.state.failed_at)
    chunk = jax.tree.map(jnp.asarray, chunk)
    return Population(
        chunk.state.variables,
        checkpoints,
        jnp.asarray(checkpoint_steps, jnp.int32),
        chunk.loss,
        chunk.state.failed_at,
    )


def _keys(key: Array, members: int) -> Array:
    """A threefry key for each member."""
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


def _begin(classifier, optimizer, x, key, start):
    """A member's key for its descent, and its state before the first step."""
    key_init, key_descend = jax.random.split(key)
    variables = classifier.init(key_init, x) if start is None else start
    return key_descend, descent.start(variables, optimizer)


# The same function for the same arguments, since compilations are kept by function.
@functools.lru_cache(maxsize=64)
def _cross_entropy(classifier: Classifier, augment: Augment | None) -> Objective:
    return lambda condition, shared: training_loss(classifier, augment)


def _advance(
    optimizer,
    objective,
    batch_size,
    steps,
    key,
    state,
    orders,
    condition,
    weight,
    data,
    shared,
    first,
    is_dealt,
):
    """A member some steps further, its current pass, and its mean loss over them."""
    further, losses = descent.descend_on(
        key,
        _loss_of(objective, condition, shared),
        state,
        orders,
        (data if weight is None else data._replace(weight=weight),),
        optimizer,
        steps=steps,
        batch_size=batch_size,
        first_step=first,
        is_dealt=is_dealt,
    )
    return further, jnp.mean(losses)


def _loss_of(objective: Objective, condition, shared) -> descent.LossFn:
    loss_fn = objective(condition, shared)
    if not callable(loss_fn):
        raise TypeError(
            "objective must give a loss, a function of (key, variables, batches); got "
            f"{type(loss_fn).__name__}."
        )
    return loss_fn


def _for_all(tree, count: int):
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], count, axis=0), tree)


# Jitted once for the module: two populations of one classifier and one optimiser (the
# same objects) share their compilations.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _begin_all(classifier, optimizer, x, keys, starts):
    begin = functools.partial(_begin, classifier, optimizer, x)
    return jax.vmap(begin, (0, None if starts is None else 0))(keys, starts)


@functools.partial(jax.jit, static_argnums=range(4), donate_argnums=(5, 6))
def _advance_all(
    optimizer,
    objective,
    batch_size,
    steps,
    keys,
    state,
    orders,
    conditions,
    weights,
    data,
    shared,
    first,
    is_dealt,
):
    advance = functools.partial(_advance, optimizer, objective, batch_size, steps)
    axes = (0, 0, 0, 0, None if weights is None else 0, None, None, None, None)
    return jax.vmap(advance, axes)(
        keys, state, orders, conditions, weights, data, shared, first, is_dealt
    )


def _stride(ends: Sequence[int]) -> int | None:
    """Steps of one program that all segments are made of; None for one each.

    Every length of segment is compiled on its own, which takes longer than many a
    segment runs. Where a common divisor is not much shorter than the longest, it alone
    is compiled.
    """
    gaps = {end - begun for begun, end in zip([0, *ends], ends, strict=False)}
    common = math.gcd(*gaps)
    return common if len(gaps) > 1 and max(gaps) <= _MOST_STRIDES * common else None


def _checked_steps(checkpoint_steps: Sequence[int], steps: int) -> tuple[int, ...]:
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


def _check_stacked(
    members: int, data: Examples, weights: Any, starts: Any, conditions: Any
) -> None:
    if weights is not None:
        shape = (members, data.y.shape[0])
        try:
            found = jnp.shape(weights)
        except ValueError:  # Lists of several lengths have none.
            found = None
        if found != shape:
            raise ValueError(
                f"weights must have shape [members, N] = {shape}, got {found}."
            )
        host = np.asarray(weights)
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
    for name, tree in (("starts", starts), ("conditions", conditions)):
        for path, leaf in jax.tree.leaves_with_path(tree):
            if jnp.shape(leaf)[:1] != (members,):
                raise ValueError(
                    f"{name} must be stacked [members={members}, ...]; leaf "
                    f"{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}."
                )


def _warn_of_failures(failed_at: np.ndarray) -> None:
    failed = np.flatnonzero(failed_at >= 0)
    if failed.size:
        named = [f"member {m} at step {failed_at[m]}" for m in failed[:10]]
        more = ", ..." if failed.size > 10 else ""
        warnings.warn(
            f"The loss of {failed.size} of {failed_at.size} members is not finite; "
            f"they keep their last finite variables: {', '.join(named)}{more}.",
            RuntimeWarning,
            stacklevel=3,
        )
