"""Training one classifier on data that do not fit into memory, batch by batch."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from rich.progress import Progress

from hyperforget_jax import atomic_write, checks
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import loop, resuming
from hyperforget_jax.training.fit import Augment, NonFiniteLossError, training_loss
from hyperforget_jax.training.members import Program
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["fit_batches"]

_KIND = "training/stream"


class _Program(NamedTuple):
    """What a step computes; static, and equal ones hash alike."""

    classifier: Classifier
    optimizer: optax.GradientTransformation
    augment: Augment | None

    start = Program.start

    def advance(self, key, state, batch, step):
        """Take one step."""
        loss_fn = training_loss(self.classifier, self.augment)
        how = dict(steps=1, batch_size=batch.y.shape[0], first_step=step)
        state, _ = loop.run_steps(key, loss_fn, state, (batch,), self.optimizer, **how)
        return state


_start = jax.jit(_Program.start, static_argnums=0)
_advance = jax.jit(_Program.advance, static_argnums=0, donate_argnums=2)


def fit_batches(
    key: Array,
    classifier: Classifier,
    batches: Callable[[int], Examples],
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    start: Variables | None = None,
    augment: Augment | None = None,
    segment_steps: int = 250,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Variables:
    """Train a classifier on batches that are fetched one by one, on the host.

    For data larger than memory; :func:`hyperforget_jax.fit` is for those that fit. The
    next batch is fetched while the last one is computed with.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        batches: gives the batch of a step, ``[B]`` examples, the same whenever it is
            asked: a :class:`grain.MapDataset` that was shuffled, repeated and batched
            does. All batches have the shapes of the first. Rows of weight zero are
            left out, and others drawn again in their place.
        optimizer: any optax optimiser.
        steps: how many batches.
        start: variables to start from; by default ``classifier.init``'s.
        augment: ``(x, id, epoch) -> x``; epochs are numbers that grow with the step.
        segment_steps: steps between two looks at the loss, and two files.
        directory: where to keep the run's state. A run that was killed and is called
            again with the same arguments goes on from there, and ends bit-identical to
            one that was not, on the same kind of machine. Of the batches the first one
            tells whether they are the same.
        progress: whether to show a progress bar.

    Returns:
        The trained variables.

    Raises:
        TypeError, ValueError: malformed arguments or batches, batches of other shapes
            than the first, or a ``directory`` that holds a run started with other
            arguments.
        NonFiniteLossError: training diverged; found at the end of a segment.
        BlockingIOError: another run is at work in ``directory``.

    Examples:
        >>> import jax
        >>> import numpy as np
        >>> import optax
        >>> import hyperforget_jax as hf
        >>> train = hf.data.load("digits").train
        >>> def batches(step):  # Rows that are read from a disk, say.
        ...     rows = np.random.default_rng(step).integers(train.y.size, size=64)
        ...     return train.take(rows)
        >>> variables = hf.fit_batches(
        ...     jax.random.key(0),
        ...     hf.from_linen(hf.models.MLP((16,))),
        ...     batches,
        ...     optax.adam(1e-2),
        ...     20,
        ...     progress=False,
        ... )
        >>> variables["params"]["Dense_0"]["kernel"].shape
        (64, 16)
    """
    key = as_threefry(key)
    check_optimizer(optimizer)
    checks.check_sizes(steps=steps, segment_steps=segment_steps)
    checks.check_is_function("a function of the step", batches=batches)
    if augment is not None:
        checks.check_is_function("a function (x, id, epoch) -> x", augment=augment)
    checks.check_is((bool, np.bool_), "True or False", progress=progress)
    first = batches(0)
    checks.check_is_examples(first)
    num_classes = checks.check_classifier(classifier, start, first.x, name="start")
    checks.check_examples(first, num_classes=num_classes)
    program = _Program(classifier, optimizer, augment)
    key_loop, state = _start(program, first.x, key, start)
    path, recipe, done = None, {}, 0
    if directory is not None:
        path = atomic_write.local_path("directory", directory) / "state"
        recipe = {
            "key": resuming.key_of(key),
            "classifier": classifier.description,
            "numerics": resuming.numerics(),
            "program": resuming.program_digest(
                program.advance, key_loop, state, first, 0
            ),
            **resuming.digests_of(first=first, start=start),
            "steps": steps,
            "segment_steps": segment_steps,
            "device": jax.devices()[0].device_kind,
        }
    shapes = _shapes(first)

    def fetch(step: int) -> Examples:
        batch, name = batches(step), f"batches({step})"
        checks.check_is_examples(batch, name)
        if _shapes(batch) != shapes:
            raise ValueError(
                f"{name} must have the shapes and types of batches(0), "
                f"{shapes}; got {_shapes(batch)}."
            )
        checks.check_examples(batch, num_classes=num_classes, name=name)
        return batch

    with (
        atomic_write.lock("directory", directory, ".run.lock"),
        Progress(disable=not progress, transient=True) as bar,
    ):
        if path is not None and path.exists():
            done, state = resuming.load(path, state, kind=_KIND, recipe=recipe)
        task = bar.add_task("training", total=steps, completed=done)
        for step in range(done, steps):
            state = _advance(program, key_loop, state, fetch(step), step)
            if (step + 1) % segment_steps and step + 1 < steps:
                continue
            if (failed_at := int(state.failed_at)) >= 0:
                raise NonFiniteLossError(failed_at, state.variables)
            if path is not None:
                resuming.save(path, state, kind=_KIND, recipe=recipe, step=step + 1)
            bar.update(task, completed=step + 1)
    return state.variables


def _shapes(batch: Examples) -> list[str]:
    return [str(jax.typeof(leaf)) for leaf in jax.tree.leaves(batch)]
