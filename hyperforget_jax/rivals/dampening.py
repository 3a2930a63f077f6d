"""What the variants of synaptic dampening share: all but an importance and a rule."""

from collections.abc import Callable

from hyperforget_jax import checks, fisher
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
from hyperforget_jax.methods.change import change
from hyperforget_jax.methods.fisher_state import FisherInfo, FisherState

__all__ = ["dampening"]


def dampening(
    classifier: Classifier,
    measure: Callable[[Variables, Examples], fisher.Fisher],
    threshold: Callable[[fisher.Fisher, fisher.Fisher], float | Array],
    *,
    strength: float,
    batch_size: int,
) -> Unlearner:
    """Make an unlearner that dampens where the forgotten matter most.

    As ``hf.ssd``: ``init`` measures the training data once, a request the forget data,
    whose share is taken out of what is kept.

    Args:
        classifier: the model.
        measure: how much each parameter matters to some examples: a mean over them,
            without minibatches.
        threshold: ``(of the forget data, of all data that are left) -> alpha``.
        strength: ``lambda``, see :func:`hyperforget_jax.fisher.dampen`.
        batch_size: rows at once.
    """
    checks.check_is_classifier(classifier)
    checks.check_positive(strength=strength)
    checks.check_sizes(batch_size=batch_size)

    def init(key: Array, variables: Variables, data: Examples) -> FisherState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        return FisherState(
            variables, measure(variables, data), nothing_forgotten(data, num_classes)
        )

    def unlearn(key: Array, state: FisherState, request: ForgetRequest):
        checks.check_key(key)  # Nothing here is random.
        checks.check_is(FisherState, "what init gave", state=state)
        checks.check_request(classifier, state.variables, request)
        check_known(state.forgotten, request)
        request, refused = recall(state.forgotten, request)
        whole, forget = state.fisher, request.forget
        if whole is None:
            raise ValueError("state has no importances: make it by init.")
        share = measure(state.variables, forget)
        params, dampened = fisher.dampen(
            state.variables["params"],
            share,
            whole,
            alpha=threshold(share, whole),
            strength=strength,
        )
        variables = {**state.variables, "params": params}
        changed = change(
            classifier, state.variables, variables, forget, batch_size=batch_size
        )
        left = fisher.without(whole, share, forget.weight)
        forgotten = remember(state.forgotten, request)
        return FisherState(variables, left, forgotten), FisherInfo(
            dampened, refused, changed
        )

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains="the importances, less the forgotten share; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)
