"""What methods share around their own rule: checks, memory, and how much changed."""

from collections.abc import Callable
from typing import Any

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
from hyperforget_jax.forgotten import check_known, nothing_forgotten, recall, remember
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.methods.change import change

__all__ = ["keeping"]


def keeping(
    classifier: Classifier,
    state_type: type[Any],
    prepare: Callable[[Variables, Examples], tuple[Any, ...]],
    answer: Callable[..., tuple[Variables, tuple[Any, ...], Callable[..., Any]]],
    access: Access,
    *,
    batch_size: int = 512,
    notice: Callable[[ForgetRequest], None] = lambda request: None,
) -> Unlearner:
    """Make an unlearner of what ``init`` keeps and what a request makes of it.

    Args:
        classifier: the model.
        state_type: a NamedTuple of the variables, what is kept, and ``forgotten``.
        prepare: ``(variables, data) -> (variables, *kept)``.
        answer: ``(key, variables, *kept, request) -> (variables, kept, info)``, where
            ``info(refused, change)`` is what the request reports.
        access: what is read.
        batch_size: rows at once, where the request is judged.
        notice: what is to look at the request as it is given, such as a warning.
    """
    checks.check_is_classifier(classifier)

    def init(key: Array, variables: Variables, data: Examples):
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        kept = prepare(variables, data)
        return state_type(*kept, nothing_forgotten(data, num_classes))

    def unlearn(key: Array, state: Any, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(state_type, "what init gave", state=state)
        before, *kept, forgotten = state
        checks.check_request(classifier, before, request)
        if access.unlearn & {"retain", "forget"}:
            check_known(forgotten, request)
        notice(request)
        request, refused = recall(forgotten, request)
        after, kept, info = answer(key, before, *kept, request)
        forget = request.forget if "forget" in access.unlearn else None
        changed = change(classifier, before, after, forget, batch_size=batch_size)
        state = state_type(after, *kept, remember(forgotten, request))
        return state, info(refused, changed)

    return Unlearner(init, unlearn, access)
