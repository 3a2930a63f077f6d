"""Shadow models: what an audit compares, trained and unlearned many at a time."""

import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import track

from hyperforget_jax import atomic_write, checkpointing, checks, chunking, trees
from hyperforget_jax.base import (
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.training import fit_population, resuming
from hyperforget_jax.user_warnings import warn_user

__all__ = [
    "Shadows",
    "complementary_halves",
    "rows_there",
    "train_shadows",
    "unlearn_shadows",
]

_CHUNK = "audit-unlearned"


class Shadows(NamedTuple):
    """Models trained with and without the examples of one request.

    Attributes:
        included: which of the request's rows each original was trained with, bool,
            ``[K, F]``; False for padding.
        original: variables of models trained with them, leaves ``[K, ...]``.
        retrained: of models that saw none of these rows, leaves ``[2 K, ...]``.
    """

    included: np.ndarray
    original: Variables
    retrained: Variables


def train_shadows(
    key: Array,
    classifier: Classifier,
    request: ForgetRequest,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    models: int,
    halves: bool = False,
    batch_size: int = 128,
    directory: str | os.PathLike[str] | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Shadows:
    """Train originals and retrained models, as many as an audit wants a side.

    Twice as many are retrained as originals are trained, since retrained models posed
    as unlearned are every audit's floor.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        request: what is to be forgotten; its data train the models.
        optimizer: of all models, and with ``steps`` and ``batch_size`` the recipe.
        steps: minibatches for each.
        models: how many models, for each example, have it to forget.
        halves: whether each original is trained with a random half of the rows, and is
            to forget these; the next one with the other half. So what is forgotten
            varies from model to model, and every example has models that never saw
            it. It takes twice as many models. For requests for rows alone: a class is
            known from half of its rows.
        batch_size: rows a minibatch.
        directory: where to keep the runs; a run that was stopped goes on from there.
        mesh: as for :func:`hyperforget_jax.fit_population`.
        progress: whether to show a progress bar.

    Raises:
        TypeError, ValueError: malformed arguments, halves of a class, or a request
            without retained data.
        ArithmeticError: a training diverged, so that there is nothing to compare with.
    """
    checks.check_key(key)
    checks.check_sizes(models=models)
    data, rows = _rows(request)
    if halves and bool(jnp.any(request.classes)):
        raise ValueError(
            "halves=True takes a request for rows (forget_rows, forget_random), and "
            "this one is for classes, which are known from half of their rows."
        )
    key_halves, key_originals, key_retrained = jax.random.split(key, 3)
    there = rows_there(request)
    count = models * (1 + halves)
    included = np.broadcast_to(there, (count, rows.size))
    weights = None
    if halves:
        included = complementary_halves(key_halves, there, models)
        weights = np.repeat(np.asarray(data.weight)[None], count, 0)
        model, place = np.nonzero(there & ~included)
        weights[model, rows[place]] = 0
    if directory is not None:
        directory = atomic_write.local_path("directory", directory)

    def train(name, key, examples, members, weights):
        population = fit_population(
            key,
            classifier,
            examples,
            optimizer,
            steps,
            members=members,
            weights=weights,
            batch_size=batch_size,
            directory=None if directory is None else directory / name,
            mesh=mesh,
            progress=progress,
        )
        failed = np.flatnonzero(np.asarray(population.failed_at) >= 0)
        if failed.size:
            raise ArithmeticError(
                f"The training of {failed.size} of {members} {name} models is not "
                "finite: an audit needs a recipe that holds, such as a smaller "
                "learning rate."
            )
        return population.variables

    return Shadows(
        included,
        train("original", key_originals, data, count, weights),
        train("retrained", key_retrained, request.retain, 2 * count, None),
    )


def unlearn_shadows(
    key: Array,
    unlearner: Unlearner,
    shadows: Shadows,
    request: ForgetRequest,
    *,
    chunk_size: int | None = None,
    directory: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Variables:
    """Let every original forget what it was trained with of the request.

    Model ``k`` has the key ``fold_in(key, k)``, and prepares with its own training
    data.

    Args:
        key: a typed key, consumed.
        unlearner: the method.
        shadows: made for ``request``.
        request: whose rows and classes are forgotten.
        chunk_size: models at once; by default as many as the memory holds.
        directory: where to keep finished chunks; a run that was stopped goes on from
            there, to the same bits on the same kind of machine.
        progress: whether to show a progress bar.

    Returns:
        Variables, leaves ``[K, ...]``. Models whose unlearning was not finite keep
        their last finite ones, and are named in a warning.

    Raises:
        TypeError, ValueError: malformed arguments, or a ``directory`` that holds
            another run.
        BlockingIOError: another run is at work in ``directory``.
    """
    checks.check_key(key)
    if chunk_size is not None:
        checks.check_sizes(chunk_size=chunk_size)
    checks.check_is(
        Unlearner, "a hf.Unlearner, such as hf.pgu gives", unlearner=unlearner
    )
    data, rows = _rows(request)
    if shadows.included.shape[1:] != rows.shape:
        raise ValueError(
            f"shadows were trained for a request of {shadows.included.shape[1]} rows, "
            f"and this one has {rows.size}: give both the same request."
        )
    count = shadows.included.shape[0]
    there = rows_there(request)

    def one(key, variables, included, there, data, rows, classes):
        # What it never saw weighs nothing, and is not asked for.
        absent = data.y.shape[0]
        own = data.without(jnp.where(there & ~included, rows, absent))
        asked = ForgetRequest(own, jnp.where(included, rows, absent), classes)
        key_init, key_unlearn = jax.random.split(key)
        state = unlearner.init(key_init, variables, own)
        state, info = unlearner.unlearn(key_unlearn, state, asked)
        return state.variables, getattr(info, "failed_at", jnp.full((), -1))

    keys = jax.lax.map(functools.partial(jax.random.fold_in, key), jnp.arange(count))
    stacked = (keys, shadows.original, jnp.asarray(shadows.included))
    shared = (jnp.asarray(there), data, jnp.asarray(rows), request.classes)
    shapes = (*chunking.shapes_of_one(stacked), *shared)
    if directory is not None:
        directory = atomic_write.local_path("directory", directory)
    stored = resuming.stored_recipe(directory, _CHUNK)
    size = chunk_size or stored.get("chunk_size")
    if not size:
        size = chunking.chunk_size(count, one, *shapes)
    recipe: dict[str, Any] = {}
    if directory is not None:
        recipe = {
            "key": resuming.key_of(key),
            "numerics": resuming.numerics(),
            "program": resuming.program_digest(one, *shapes),
            "given": checkpointing.digest((stacked[1:], shared)),
            "chunk_size": size,
            "device": jax.devices()[0].device_kind,
        }
        resuming.check_recipe(directory, stored, recipe)
    axes = (0, 0, 0, None, None, None, None)
    answer = jax.jit(jax.vmap(one, axes))

    def chunk(index):
        # The last chunk is filled up, so that all share a compilation.
        chosen = (index * size + np.arange(size)) % count
        own = trees.take(stacked, chosen)
        path = None if directory is None else directory / f"chunk-{index:05d}"
        like = jax.eval_shape(answer, *own, *shared)
        if path is not None and path.exists():
            return resuming.load(path, like, kind=_CHUNK, recipe=recipe)[1]
        made = jax.tree.map(np.asarray, answer(*own, *shared))
        if path is not None:
            resuming.save(path, made, kind=_CHUNK, recipe=recipe, step=1)
        return made

    with atomic_write.lock("directory", directory, ".run.lock"):
        numbers = range(-(-count // size))
        chunks = [
            chunk(index) for index in track(numbers, "unlearning", disable=not progress)
        ]
    variables, failed_at = jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:count], *chunks
    )
    failed = np.flatnonzero(failed_at >= 0)
    if failed.size:
        warn_user(
            f"Unlearning of {failed.size} of {count} models is not finite; they keep "
            f"their last finite variables: {failed[:10].tolist()}.",
            RuntimeWarning,
        )
    return variables


def complementary_halves(key: Array, there: np.ndarray, pairs: int) -> np.ndarray:
    """Draw random halves of rows, each followed by the other half.

    Args:
        key: a typed key, consumed.
        there: which rows there are, bool, ``[F]``.
        pairs: how many pairs of halves.

    Returns:
        Who is trained with what, bool, ``[2 pairs, F]``.
    """
    drawn = np.asarray(jax.random.uniform(key, (pairs, there.size)))
    place = np.where(there, drawn, np.inf).argsort(axis=1).argsort(axis=1)
    first = place < there.sum() // 2
    return np.stack([first, there & ~first], axis=1).reshape(2 * pairs, -1)


def _rows(request: ForgetRequest) -> tuple[Examples, np.ndarray]:
    checks.check_is_request(request)
    if request.data is None or request.rows is None:
        raise ValueError(
            "request must be a single one with all training data at hand: make it "
            "with hf.forget_classes, hf.forget_rows or hf.forget_random."
        )
    return request.data, np.asarray(request.rows)


def rows_there(request: ForgetRequest) -> np.ndarray:
    """Tell which of a request's rows are no padding, bool, ``[F]``."""
    return np.asarray(request.forget.weight) > 0
