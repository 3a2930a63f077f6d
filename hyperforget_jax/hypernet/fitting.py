"""Training a hypernetwork on a zoo: one scan of denoising steps a segment."""

import dataclasses
import functools
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from hyperforget_jax import atomic_write, checkpointing, checks, sharding
from hyperforget_jax.base import Array, Classifier, Examples
from hyperforget_jax.hypernet.network import Hypernetwork, Learnt
from hyperforget_jax.hypernet.objective import Course, lesson_loss
from hyperforget_jax.hypernet.pairs import (
    Lessons,
    lessons_of,
    profiles_of,
)
from hyperforget_jax.hypernet.scales import power_of_two_scales
from hyperforget_jax.hypernet.zoo import Zoo
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import resuming

__all__ = ["Progressed", "fit_hypernetwork"]

_KIND = "hypernetwork-training"


class Progressed(NamedTuple):
    """Where a training stands.

    Attributes:
        weights: of the denoiser.
        average: their moving average, which is what is used in the end.
        opt_state: the optimiser's state.
        trace: loss of every step taken, zero beyond, ``[steps]``.
    """

    weights: Any
    average: Any
    opt_state: Any
    trace: Array


def fit_hypernetwork(
    key: Array,
    hypernetwork: Hypernetwork,
    classifier: Classifier,
    zoo: Zoo | Sequence[Zoo],
    train: Examples,
    course: Course,
    *,
    directory: str | Path | None = None,
    segment_steps: int = 250,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> tuple[Hypernetwork, np.ndarray]:
    """Trains a hypernetwork by denoising, and by what the made models answer.

    The functional loss is the divergence of a made model's answers from those of the
    checkpoint that it is to be, on training rows; its gradient goes through the
    classifier into the hypernetwork. Without it a mean of many models that all answer
    alike is as good as one of them, and answers like none.

    Args:
        key: a typed key, consumed.
        hypernetwork: from :func:`build`, or an earlier training's, which is not read.
        classifier: the model it is for.
        zoo: what it learns from; or zoos by turns, one a segment, each of which is
            read when it is needed (:func:`stored_zoo` gives such), and before for its
            losses and, with a ``directory``, its digest. Scales are the first one's.
        train: training rows for the functional loss, ``[N]``.
        course: how.
        directory: where to keep the state after each segment; a call that was killed
            goes on from there, to the same result.
        segment_steps: steps between two returns to the host.
        mesh: with an ``examples`` axis, along which the pairs of a step are split.
        progress: whether to show a progress bar.

    Returns:
        The hypernetwork that has learnt, and the loss of every step, ``[steps]``.

    Raises:
        TypeError, ValueError: malformed arguments, another classifier, or a
            ``directory`` that holds a training begun with other ones.
        ArithmeticError: the loss was not finite.
        BlockingIOError: another run is at work in ``directory``.
    """
    key = as_threefry(key)
    checks.check_is(
        Hypernetwork, "what hypernet.build gives", hypernetwork=hypernetwork
    )
    checks.check_is(Course, "hypernet.Course", course=course)
    if directory is not None:
        directory = atomic_write.local_path("directory", directory)
    checks.check_sizes(
        steps=course.steps,
        batch_size=course.batch_size,
        functional_rows=course.functional_rows,
        segment_steps=segment_steps,
    )
    checks.check_positive(learning_rate=course.learning_rate)
    checks.check_is_classifier(classifier)
    if mesh is not None:
        sharding.check_mesh(mesh, "examples")
    if hypernetwork.classifier != classifier.description:
        raise ValueError(
            f"hypernetwork is for the classifier {hypernetwork.classifier!r}, not "
            f"{classifier.description!r}."
        )
    checks.check_examples(train, num_classes=hypernetwork.num_classes, name="train")
    zoos = [zoo] if isinstance(zoo, Zoo) else zoo
    zoos = [] if zoos is None else zoos
    checks.check_is(Sized, "a hypernet.Zoo, or several in a list", zoo=zoos)
    if not len(zoos):
        raise ValueError(f"zoo must be a zoo, or at least one of them; got {zoo!r}.")
    first = zoos[0]
    checks.check_is(Zoo, "a hypernet.Zoo, or several in a list", zoo=first)
    anchored = hypernetwork.recipe.mode == "anchored"
    if anchored != (first.starts is not None):
        raise ValueError(
            f"The {hypernetwork.recipe.mode} mode learns from "
            f"{'an anchored' if anchored else 'a free'} zoo: make it by "
            f"hypernet.{'anchored' if anchored else 'free'}_zoo."
        )
    key_init, key_train = jax.random.split(key)
    lessons = lessons_of(first)
    if len(zoos) == 1:  # Goes to the device once, and not with every segment.
        lessons = jax.tree.map(jnp.asarray, lessons)
    state = _begin(hypernetwork, course, key_init)
    learnt = Learnt(None, *_scales(lessons, anchored), profiles_of(zoos))
    recipe = {}
    if directory is not None:
        recipe = {
            "key": resuming.key_of(key),
            "classifier": hypernetwork.classifier,
            "numerics": resuming.numerics(),
            "begin": resuming.program_digest(
                lambda key: _begin(hypernetwork, course, key), key_init
            ),
            "program": _program(
                hypernetwork,
                classifier,
                course,
                (key_train, state, learnt, lessons, train),
            ),
            "network": dataclasses.asdict(hypernetwork.recipe),
            "course": course._asdict(),
            "zoos": [checkpointing.digest(one) for one in zoos],
            "train": checkpointing.digest(train),
            "segment_steps": segment_steps,
            "device": jax.devices()[0].device_kind,
            "devices": 1 if mesh is None else mesh.size,
        }
    del first
    begun, state = _resume(directory, state, recipe)
    batch = None
    if mesh is not None:
        state, train = sharding.replicate((state, train), mesh)
        batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("examples"))

    with (
        atomic_write.lock("directory", directory, "../.{name}.run.lock"),
        Progress(disable=not progress, transient=True) as bar,
    ):
        task = bar.add_task("hypernetwork", total=course.steps, completed=begun)
        while begun < course.steps:
            segment = begun // segment_steps
            count = min(segment_steps, course.steps - begun)
            if len(zoos) > 1:
                lessons = lessons_of(zoos[segment % len(zoos)])
            state = _advance(
                hypernetwork._replace(learnt=None),
                classifier,
                course,
                count,
                batch,
                key_train,
                state,
                learnt,
                lessons,
                train,
                begun,
            )
            begun += count
            recent = float(jnp.mean(state.trace[begun - count : begun]))
            if not np.isfinite(recent):
                raise ArithmeticError(
                    f"The loss is not finite before step {begun}: a smaller "
                    "course.learning_rate may help."
                )
            _keep(directory, state, recipe, begun)
            bar.update(task, completed=begun, description=f"loss {recent:.4f}")
    # By way of the host: what was trained on a mesh is not bound to it.
    weights = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state.average)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise ArithmeticError("The last updates were not finite.")
    learnt = learnt._replace(weights=weights)
    return hypernetwork._replace(learnt=learnt), np.asarray(state.trace)


def _begin(hypernetwork: Hypernetwork, course: Course, key: Array) -> Progressed:
    """Where a training stands before its first step."""
    weights = hypernetwork.init(key)
    return Progressed(
        weights,
        jax.tree.map(jnp.copy, weights),  # Both are given away to each segment.
        _optimizer(course).init(weights),
        jnp.zeros(course.steps),
    )


def _program(hypernetwork, classifier, course, arguments) -> str:
    """A digest of what one step computes."""
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments
    )
    bare = hypernetwork._replace(learnt=None)
    step = functools.partial(_advance, bare, classifier, course, 1, None)
    return resuming.program_digest(step, *shapes, 0)


@functools.partial(jax.jit, static_argnums=range(5), donate_argnums=6)
def _advance(
    hypernetwork: Hypernetwork,
    classifier: Classifier,
    course: Course,
    steps: int,
    batch: Any,
    key: Array,
    state: Progressed,
    learnt: Learnt,
    lessons: Lessons,
    train: Examples,
    first: Array,
) -> Progressed:
    """Some more steps."""
    optimizer = _optimizer(course)

    def body(state, step):
        key_rows, key_pairs = jax.random.split(jax.random.fold_in(key, step))
        # In proportion to weight, and never a row that weighs nothing.
        ends = jnp.cumsum(train.weight.astype(jnp.int32))
        drawn = jax.random.randint(key_rows, (course.functional_rows,), 0, ends[-1])
        places = jnp.searchsorted(ends, drawn, side="right")
        x = train.x[places]
        keys = jax.random.split(key_pairs, course.batch_size)
        if batch is not None:
            keys = jax.lax.with_sharding_constraint(keys, batch)

        def objective(weights):
            def one(key):
                return lesson_loss(
                    key,
                    hypernetwork,
                    classifier,
                    course,
                    learnt._replace(weights=weights),
                    lessons,
                    x,
                    train.y[places],
                )

            return jnp.mean(jax.vmap(one)(keys))

        loss, grads = jax.value_and_grad(objective)(state.weights)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.weights)
        weights = optax.apply_updates(state.weights, updates)
        decay = jnp.asarray(course.ema)
        if course.ema_warmup:
            decay = jnp.minimum(decay, (1 + step) / (10 + step))
        average = optax.incremental_update(weights, state.average, 1 - decay)
        trace = state.trace.at[step].set(loss)
        return Progressed(weights, average, opt_state, trace), None

    numbers = first + jnp.arange(steps, dtype=jnp.int32)
    return jax.lax.scan(body, state, numbers)[0]


def _optimizer(course: Course) -> optax.GradientTransformation:
    warm = min(100, max(course.steps // 10, 1))
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        course.learning_rate,
        warm,
        max(course.steps, warm + 1),
        0.02 * course.learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(course.clip),
        optax.adamw(rate, b2=0.99, weight_decay=course.weight_decay),
    )


def _scales(lessons: Lessons, anchored: bool) -> tuple[Any, Any]:
    """Of parameters, and of what is predicted."""
    pairs = np.asarray(lessons.pairs)
    begins, runs, _ = pairs[pairs[:, 2] < 0].T
    # A few hundred pairs are enough for a scale.
    chosen = np.linspace(0, len(runs) - 1, min(len(runs), 512)).astype(int)
    ends = jax.tree.map(lambda leaf: leaf[runs[chosen], -1], lessons.params)
    scales = power_of_two_scales(ends)
    if not anchored:
        return scales, scales
    changes = jax.tree.map(
        lambda end, begin: end - begin[begins[chosen]], ends, lessons.anchors
    )
    return scales, power_of_two_scales(changes)


def _resume(directory, fresh: Progressed, recipe: dict) -> tuple[int, Progressed]:
    if directory is None or not (Path(directory) / "manifest.json").exists():
        return 0, fresh
    stored, step = resuming.recipe_of(directory, _KIND)
    resuming.check_recipe(directory, stored, recipe)
    return step, checkpointing.load(directory, kind=_KIND, like=fresh)


def _keep(directory, state: Progressed, recipe: dict, step: int) -> None:
    if directory is not None:
        checkpointing.save(
            directory,
            state,
            kind=_KIND,
            config={"recipe": recipe, "step": step},
            overwrite=True,
        )
