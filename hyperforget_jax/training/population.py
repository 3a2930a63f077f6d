"""Many classifiers at once: ``fit`` under ``vmap``, in chunks that fit the memory.

The same primitive makes retrained models, zoos of checkpoints and shadow models. This
file is the host's outer loop over chunks and segments; what runs on the device is
:mod:`hyperforget_jax.training.loop`, and what is on disk belongs to
:mod:`hyperforget_jax.training.resuming`.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from hyperforget_jax import atomic_write, checks, chunking, sharding, trees
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.training import loop, resuming
from hyperforget_jax.training.fit import Augment
from hyperforget_jax.training.members import (
    CrossEntropy,
    Objective,
    Program,
    advance_all,
    check_stacked,
    check_weights,
    checked_steps,
    member_keys,
    start_all,
    warn_of_failures,
)
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["Population", "fit_population"]

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
    recorded ones. Members that failed are named in a warning and flagged.

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
        objective: ``(condition, shared) -> loss_fn``, what each member minimises (a
            ``hf.training.LossFn``, which augments by itself); by default cross-entropy.
        conditions: arrays that make one member's objective differ from another's,
            leaves ``[P, ...]``.
        shared: arrays that the objectives of all members read.
        checkpoint_steps: steps, in ``[1, steps]``, after which variables are kept.
        chunk_size: members trained at once; by default as many as the memory holds.
        segment_steps: steps between two returns to the host, to files and progress;
            250 by default.
        directory: where to keep the run's state. A run that was killed and is called
            again with the same arguments goes on from there, and ends bit-identical
            to one that was not, on the same kind of machine.
        mesh: with a ``population`` axis, on which the members of a chunk are sharded.
            If it has devices of several processes, each of these makes the same call,
            with a ``directory`` that all see, and gets the whole population.
        progress: whether to show a progress bar.

    Raises:
        TypeError, ValueError: malformed arguments, or a ``directory`` that holds a run
            started with other ones.
        BlockingIOError: another run is at work in ``directory``.

    Examples:
        >>> import jax
        >>> import optax
        >>> import hyperforget_jax as hf
        >>> train = hf.data.load("digits").train
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> key, optimizer = jax.random.key(0), optax.adam(1e-2)
        >>> population = hf.fit_population(
        ...     key, classifier, train, optimizer, 20, members=3, progress=False
        ... )
        >>> population.variables["params"]["Dense_0"]["kernel"].shape
        (3, 64, 16)
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
    check_weights(weights, members, data)
    check_stacked(members, starts=starts, conditions=conditions)
    if objective is not None and augment is not None:
        raise ValueError("augment goes unused with an objective: let that augment.")
    keys = member_keys(key, members)
    weights = None if weights is None else jnp.asarray(weights, jnp.int32)
    checkpoint_steps = checked_steps(checkpoint_steps, steps)
    conditions, shared = jax.tree.map(jnp.asarray, (conditions, shared))
    objective = CrossEntropy(classifier, augment) if objective is None else objective

    program = Program(classifier, optimizer, objective, batch_size)
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
            "init": resuming.program_digest(program.start, *to_start),
            "program": resuming.program_digest(program.advance, *one),
            **resuming.digests_of(
                data=data,
                weights=weights,
                starts=starts,
                conditions=conditions,
                shared=shared,
            ),
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

    load = functools.partial(resuming.load, recipe=recipe)
    is_writer = sharding.is_writer(mesh)

    def save(path, tree, **about):
        tree = sharding.gather(tree)  # All processes give what they have.
        if is_writer:
            resuming.save(path, tree, recipe=recipe, **about)

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
        loop_keys, state = start_all(program, data.x, chunk_keys, start)
        done, chunk = 0, _Chunk(state, jnp.zeros(chunk_size, jnp.float32))
        path = None if directory is None else directory / f"chunk-{index:05d}"
        if path is not None and path.exists():
            done, chunk = load(path, chunk, kind=_CHUNK)
        kept = [
            sharding.gather(
                load(_kept_path(path, step), chunk.state.variables, kind=_CHECKPOINT)[1]
            )
            for step in checkpoint_steps
            if path is not None and step <= done
        ]
        chunk = chunk._replace(state=place(chunk.state))
        advanced(done)
        for end in [end for end in ends if end > done]:
            own, span = (loop_keys, chunk.state, condition, weight), (done, end)
            chunk = _Chunk(*advance_all(program, *own, data, shared, *span, mesh=mesh))
            if end in checkpoint_steps:
                # A copy: the state's buffers are given away to the next segment.
                whole = sharding.gather(chunk.state.variables)
                kept.append(jax.tree.map(np.array, whole))
            if path is not None:
                # The chunk last: one that is found has all that came before.
                if end in checkpoint_steps:
                    save(_kept_path(path, end), kept[-1], kind=_CHECKPOINT, step=end)
                save(path, chunk, kind=_CHUNK, step=end)
            advanced(end - done)
            done = end
        stacked = (
            jax.tree.map(lambda *leaves: np.stack(leaves, 1), *kept) if kept else None
        )
        return jax.tree.map(np.asarray, (sharding.gather(chunk), stacked))

    num_chunks = -(-members // chunk_size)
    with (
        atomic_write.lock("directory", directory if is_writer else None, ".run.lock"),
        Progress(disable=not (progress and is_writer), transient=True) as bar,
    ):
        task = bar.add_task(f"{members} classifiers", total=num_chunks * steps)
        chunks = [
            run_chunk(index, lambda count: bar.advance(task, count))
            for index in range(num_chunks)
        ]

    chunk, checkpoints = jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:members], *chunks
    )
    warn_of_failures(chunk.state.failed_at)
    chunk = jax.tree.map(jnp.asarray, chunk)
    taken = jnp.asarray(checkpoint_steps, jnp.int32)
    state = chunk.state
    return Population(state.variables, checkpoints, taken, chunk.loss, state.failed_at)


def _kept_path(path: Path, step: int) -> Path:
    return path.with_name(f"{path.name}-step-{step:09d}")
