"""What the methods share that keep sums over the training data, and take shares out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax.base import Access, Classifier, Examples, Unlearner, Variables
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.keeping import keeping
from hyperforget_jax.methods.stateless import ModelInfo
from hyperforget_jax.models import warn_of_untapped

__all__ = ["StoreState", "stored"]


class StoreState(NamedTuple):
    """A model, and sums over the training data that are left.

    Attributes:
        variables: the current model's variables.
        store: the sums, any tree of arrays.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    store: Any
    forgotten: Forgotten


def stored(
    classifier: Classifier,
    measure: Callable[[Variables, Examples], Any],
    answer: Callable[[Variables, Any, Any, Examples], Any],
    name: str,
    *,
    remains: str,
    batch_size: int,
) -> Unlearner:
    """Make an unlearner that needs no retained data once the sums are there.

    The share that is taken out is measured in the model at hand: after a request that
    moved what was summed, the next one's subtraction is off by as much.

    Args:
        classifier: the model, with taps.
        measure: ``(variables, examples) -> sums``, which add up over examples.
        answer: ``(variables, sums of what stays, sums of what goes, the latter) ->
            params``.
        name: of the method, for messages.
        remains: the sums' name, for the access record.
        batch_size: rows at once, where the request is judged.
    """

    def prepare(variables: Variables, data: Examples):
        store = measure(variables, data)
        warn_of_untapped(classifier, variables, data.x, name)
        return variables, store

    def answer_request(key, before, store, request):
        del key  # Nothing here is random.
        gone = measure(before, request.forget)
        left = jax.tree.map(jnp.subtract, store, gone)
        params = answer(before, left, gone, request.forget)
        return {**before, "params": params}, (left,), ModelInfo

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains=f"{remains}, less the forgotten share; normalisation statistics",
    )
    return keeping(
        classifier, StoreState, prepare, answer_request, access, batch_size=batch_size
    )
