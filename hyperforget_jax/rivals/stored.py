"""What the methods share that keep sums over the training data, and take shares out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import checks
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.forgotten import (
    Forgotten,
    check_known,
    nothing_forgotten,
    recall,
    remember,
)
from hyperforget_jax.methods.change import change
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
    checks.check_is_classifier(classifier)

    def init(key: Array, variables: Variables, data: Examples) -> StoreState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        store = measure(variables, data)
        warn_of_untapped(classifier, variables, data.x, name)
        return StoreState(variables, store, nothing_forgotten(data, num_classes))

    def unlearn(key: Array, state: StoreState, request: ForgetRequest):
        checks.check_key(key)  # Nothing here is random.
        checks.check_is(StoreState, "what init gave", state=state)
        before = state.variables
        checks.check_request(classifier, before, request)
        check_known(state.forgotten, request)
        request, refused = recall(state.forgotten, request)
        forget = request.forget
        gone = measure(before, forget)
        left = jax.tree.map(jnp.subtract, state.store, gone)
        after = {**before, "params": answer(before, left, gone, forget)}
        changed = change(classifier, before, after, forget, batch_size=batch_size)
        forgotten = remember(state.forgotten, request)
        return StoreState(after, left, forgotten), ModelInfo(refused, changed)

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains=f"{remains}, less the forgotten share; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)
