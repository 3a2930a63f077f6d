"""What the methods share that carry nothing but the model from request to request."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hyperforget_jax import checks, losses
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)

__all__ = ["MemorylessState", "loss_on", "memoryless"]


class MemorylessState(NamedTuple):
    """A state without memory.

    Attributes:
        variables: the current model's variables.
    """

    variables: Variables


def memoryless(
    classifier: Classifier,
    forget_fn: Callable[[Array, Variables, ForgetRequest], tuple[Variables, Any]],
    access: Access,
) -> Unlearner:
    """An unlearner that prepares nothing.

    Args:
        classifier: the model, for the check of requests against its logits.
        forget_fn: ``(key, variables, request) -> (variables, info)``.
        access: what ``forget_fn`` reads.
    """

    def init(key: Array, variables: Variables, data: Examples) -> MemorylessState:
        del key, data  # Nothing is prepared.
        return MemorylessState(variables)

    def unlearn(key: Array, state: MemorylessState, request: ForgetRequest):
        checks.check_request(classifier, state.variables, request)
        variables, info = forget_fn(key, state.variables, request)
        return MemorylessState(variables), info

    return Unlearner(init, unlearn, access)


def loss_on(
    classifier: Classifier,
    variables: Variables,
    examples: Examples,
    loss: Callable[[Array, Array], Array] = losses.cross_entropy,
) -> Array:
    """Mean loss of a batch in evaluation mode: normalisation statistics stay."""
    values = loss(classifier.apply(variables, examples.x), examples.y)
    return losses.weighted_mean(values, examples.weight)
