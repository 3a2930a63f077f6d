"""Many classifiers at once: ``fit`` under ``vmap``, in chunks that fit the memory.

The same primitive makes retrained models, zoos of checkpoints and shadow models. This
file is the host's outer loop over chunks and segments; what runs on the device is
:mod:`hyperforget_jax.training.loop`, and what is on disk belongs to
:mod:`hyperforget_jax.training.resuming`.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from hyperforget_jax import (
    atomic_write,
    checkpointing,
    checks,
    chunking,
    sharding,
    trees,
)
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import loop, resuming
from hyperforget_jax.training.fit import Augment, training_loss
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["Objective", "Population", "fit_population"]

Objective = Callable[[Any, Any], loop.LossFn]
"""``(a member's condition, what all share) -> loss``, as the loop takes it."""

_CHUNK, _CHECKPOINT = "population-chunk", "population-checkpoint"


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


class _Chunk(NamedTuple):
    """Members some of the way through their training, leaves ``[chunk_size, ...]``."""

    state: loop.LoopState
    loss: Array


class _Program(NamedTuple):
    """What one member computes; static, and equal ones hash alike."""

    classifier: Classifier
    optimizer: optax.GradientTransformation
    objective: Objective
    batch_size: int

    def start(self, x, key, start):
        """A member's key for its steps, and its state before the first."""
        key_init, key_loop = jax.random.split(key)
        variables = self.classifier.init(key_init, x) if start is None else start
        return key_loop, loop.init(variables, self.optimizer)

    def advance(
        self, key, state, condition, weight, data, shared, first_step, last_step
    ):
        """A member some steps further, and its mean loss over them."""
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
class _CrossEntropy:
    """The objective of ``fit``; equal ones share their compilations."""

    classifier: Classifier
    augment: Augment | None

    def __call__(self, condition: Any, shared: Any) -> loop.LossFn:
        return training_loss(self.classifier, self.augment)


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
    """Train a population: :func:`hyperforget_jax.fit` over keys, weights and starts.

    Member ``m`` is trained with ``fold_in(key, m)``, or with ``key[m]``. The same
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
            the loop takes it (``hf.training.LossFn``); by default the mean
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
    sizes = {"chunk_size": chunk_size, "segment_steps": segment_steps}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    checks.check_sizes(steps=steps, members=members, batch_size=batch_size, **sizes)
    if mesh is not None:
        sharding.check_mesh(mesh, "population")
    checks.check_is_examples(data)
    if directory is not None:
        directory = atomic_write.local_path("directory", directory)
    for name, function in (("augment", augment), ("objective", objective)):
        if function is not None:
            checks.check_is_function("a function", **{name: function})
    checks.check_is((bool, np.bool_), "True or False", progress=progress)
    checks.check_arrays(
        starts=starts, weights=weights, conditions=conditions, shared=shared
    )
    starts = jax.tree.map(jnp.asarray, starts)
    one_start = chunking.shapes_of_one(starts)
    num_classes = checks.check_classifier(classifier, one_start, data.x, name="starts")
    checks.check_axes(starts=starts, weights=weights, conditions=conditions)
    checks.check_examples(data, num_classes=num_classes)
    _check_weights(weights, members, data)
    _check_stacked(members, starts=starts, conditions=conditions)
    if objective is not None and augment is not None:
        raise ValueError("augment goes unused with an objective: let that augment.")
    keys = _keys(key, members)
    weights = None if weights is None else jnp.asarray(weights, jnp.int32)
    checkpoint_steps = _checked_steps(checkpoint_steps, steps)
    conditions, shared = jax.tree.map(jnp.asarray, (conditions, shared))
    objective = _CrossEntropy(classifier, augment) if objective is None else objective

    program = _Program(classifier, optimizer, objective, batch_size)
    to_start = (data.x, keys[0], one_start)
    shapes = jax.eval_shape(program.start, *to_start)
    one = (*shapes, chunking.shapes_of_one(conditions), data.weight, data, shared, 0, 1)
    devices = 1 if mesh is None else mesh.shape["population"]
    stored = resuming.stored_recipe(directory, _CHUNK)
    chunk_size = chunk_size or stored.get("chunk_size")
    if not chunk_size:
        state = jax.tree.leaves(shapes[1])
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in state)
        chunk_size = chunking.chunk_size(
            members, program.advance, *one, held=held, devices=devices
        )
    segment_steps = segment_steps or stored.get("segment_steps", 250)
    recipe = {}
    if directory is not None:
        recipe = {
            "key": resuming.key_of(key),
            "classifier": classifier.description,
            "numerics": resuming.numerics(),
            "begin": resuming.program_digest(program.start, *to_start),
            "program": resuming.program_digest(program.advance, *one),
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

    def run_chunk(index: int, advanced) -> tuple[_Chunk, Variables | None]:
        # The last chunk is filled up with members of the first, dropped afterwards, so
        # that all chunks share a compilation.
        chosen = (index * chunk_size + np.arange(chunk_size)) % members
        stacked = (keys, starts, conditions, weights)
        chunk_keys, start, condition, weight = place(trees.take(stacked, chosen))
        loop_keys, state = _start_all(program, data.x, chunk_keys, start)
        done, chunk = 0, _Chunk(state, jnp.zeros(chunk_size, jnp.float32))
        path = None if directory is None else directory / f"chunk-{index:05d}"
        if path is not None and path.exists():
            done, chunk = resuming.load(path, chunk, kind=_CHUNK, recipe=recipe)
        kept = [
            resuming.load(
                _kept_path(path, step),
                chunk.state.variables,
                kind=_CHECKPOINT,
                recipe=recipe,
            )[1]
            for step in checkpoint_steps
            if step <= done
        ]
        chunk = chunk._replace(state=place(chunk.state))
        advanced(done)
        for end in [end for end in ends if end > done]:
            chunk = _Chunk(
                *_advance_all(
                    program,
                    loop_keys,
                    chunk.state,
                    condition,
                    weight,
                    data,
                    shared,
                    done,
                    end,
                )
            )
            if end in checkpoint_steps:
                # A copy: the state's buffers are given away to the next segment.
                kept.append(jax.tree.map(np.array, chunk.state.variables))
            if path is not None:
                # The chunk last: one that is found has all that came before.
                if end in checkpoint_steps:
                    resuming.save(
                        _kept_path(path, end),
                        kept[-1],
                        kind=_CHECKPOINT,
                        recipe=recipe,
                        step=end,
                    )
                resuming.save(path, chunk, kind=_CHUNK, recipe=recipe, step=end)
            advanced(end - done)
            done = end
        stacked = (
            jax.tree.map(lambda *leaves: np.stack(leaves, 1), *kept) if kept else None
        )
        return jax.tree.map(np.asarray, (chunk, stacked))

    num_chunks = -(-members // chunk_size)
    with (
        atomic_write.lock("directory", directory, ".run.lock"),
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


def _kept_path(path: Path, step: int) -> Path:
    return path.with_name(f"{path.name}-step-{step:09d}")


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


# Jitted once for the module: populations of equal programs share their compilations.
@functools.partial(jax.jit, static_argnums=0)
def _start_all(program, x, keys, starts):
    return jax.vmap(program.start, (None, 0, 0))(x, keys, starts)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _advance_all(program, keys, state, conditions, weights, *common):
    axes = (0, 0, 0, 0, *[None] * len(common))
    return jax.vmap(program.advance, axes)(keys, state, conditions, weights, *common)


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


def _check_weights(weights: Any, members: int, data: Examples) -> None:
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


def _check_stacked(members: int, **stacked: Any) -> None:
    for name, tree in stacked.items():
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
