"""SCRUB+R: of the students of all epochs, the one that errs as on unseen rows."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import checks, losses, trees
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    Unlearner,
    Variables,
)
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.keeping import keeping
from hyperforget_jax.methods.stateless import OptimisationInfo
from hyperforget_jax.models import predictions
from hyperforget_jax.training import loop

__all__ = ["ProbedState", "holding_probe", "nearest_epoch", "rewind"]


class ProbedState(NamedTuple):
    """A model, held-out rows, and what it has forgotten.

    Attributes:
        variables: the current model's variables.
        probe: held-out examples.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    probe: Examples
    forgotten: Forgotten


def holding_probe(
    classifier: Classifier,
    forget_fn: Callable[..., tuple[Variables, loop.LoopInfo]],
    access: Access,
    probe: Examples,
) -> Unlearner:
    """Make an unlearner as ``stateless`` does, with a probe beside the model.

    Args:
        classifier: the model.
        forget_fn: ``(probe, key, variables, request) -> (variables, info)``.
        access: what it reads.
        probe: held-out examples, which ``init`` puts into the state.
    """

    def prepare(variables: Variables, data: Examples):
        num_classes = checks.check_classifier(classifier, variables, probe.x)
        checks.check_examples(probe, num_classes=num_classes, name="probe")
        checks.check_held_out(data, probe)
        return variables, probe

    def answer(key, variables, probe, request):
        variables, details = forget_fn(probe, key, variables, request)
        return variables, (probe,), functools.partial(OptimisationInfo, *details)

    return keeping(classifier, ProbedState, prepare, answer, access)


def rewind(
    classifier: Classifier, students: Any, forget: Examples, probe: Examples
) -> Variables:
    """Choose the student whose error on the forgotten is nearest to the reference.

    That is the last student's error on held-out rows of the forgotten classes, each
    class with the weight that it has among the forgotten. Of students that are equally
    near the last is chosen, and the last of all if no such rows are held out.

    Students are variables, leaves ``[E, ...]``, in the order of their epochs.
    """

    def wrong(student, examples):
        logits = predictions.logits(classifier, student, examples.x)
        return (jnp.argmax(logits, -1) != examples.y).astype(jnp.float32), logits

    last = trees.take(students, -1)
    seen, logits = wrong(last, probe)
    errors = jax.lax.map(
        lambda student: losses.weighted_mean(wrong(student, forget)[0], forget.weight),
        students,
    )
    classes = jnp.arange(logits.shape[-1])

    def count(examples, values):
        weighted = jnp.where(examples.weight > 0, examples.weight * values, 0)
        return jnp.sum(
            jnp.where(examples.y[:, None] == classes[None], weighted[:, None], 0), 0
        )

    held_out = count(probe, jnp.ones_like(seen))
    error = count(probe, seen) / jnp.maximum(held_out, 1)
    wanted = count(forget, jnp.ones(forget.y.shape)) * (held_out > 0)
    reference = jnp.sum(wanted * error) / jnp.maximum(jnp.sum(wanted), 1)
    epoch = nearest_epoch(errors, reference)
    epoch = jnp.where(jnp.any(wanted > 0), epoch, errors.size - 1)
    return trees.take(students, epoch)


def nearest_epoch(errors: Array, reference: Array) -> Array:
    """Find the last of the errors ``[E]`` that are nearest to a reference."""
    return errors.size - 1 - jnp.argmin(jnp.abs(errors - reference)[::-1])
