"""Selective synaptic dampening: shrink the weights that matter to the forgotten."""

from typing import NamedTuple

import jax.numpy as jnp

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

__all__ = ["SSDInfo", "SSDState", "ssd"]


class SSDState(NamedTuple):
    """What selective synaptic dampening carries between requests.

    Attributes:
        variables: the current model's variables.
        fisher: diagonal Fisher of the training data that are left.
    """

    variables: Variables
    fisher: fisher.Fisher


class SSDInfo(NamedTuple):
    """How a request went.

    Attributes:
        dampened: share of the parameters that were dampened, float32, ``[]``.
    """

    dampened: Array


def ssd(
    classifier: Classifier,
    *,
    alpha: float = 1.0,
    strength: float = 0.3,
    estimator: str = "per_example",
    batch_size: int = 256,
) -> Unlearner:
    r"""Dampens the parameters whose Fisher on the forget data dominates.

    ``init`` reads the training data once. A request reads the forget data alone, and
    takes their share out of the Fisher that is kept, at the weights of that time.

    With the exact Fisher ``F_f / F_D <= 1 / pi`` for a forget set that is the share
    ``pi`` of the data, so that ``alpha >= 1 / pi`` selects nothing: the published
    ``alpha=10, strength=1`` does nothing to one class of ten. The defaults were chosen
    by ``experiments/tune.py``.

    Args:
        classifier: the model.
        alpha: selection threshold on ``F_f / F_D``.
        strength: ``lambda``: a chosen weight keeps ``lambda * F_D / F_f`` of itself.
        estimator: of the Fisher, see :func:`hyperforget_jax.fisher.diagonal`.
        batch_size: rows at once.

    References:
        Foster et al., Fast machine unlearning without retraining through selective
        synaptic dampening, arXiv 2308.07707, 2024.
    """
    checks.check_is_classifier(classifier)
    checks.check_positive(alpha=alpha, strength=strength)
    checks.check_sizes(batch_size=batch_size)

    def measure(variables, data: Examples):
        return fisher.diagonal(
            classifier, variables, data, estimator=estimator, batch_size=batch_size
        )

    def init(key: Array, variables: Variables, data: Examples) -> SSDState:
        del key  # Nothing here is random.
        checks.check_init(classifier, variables, data)
        return SSDState(variables, measure(variables, data))

    def unlearn(key: Array, state: SSDState, request: ForgetRequest):
        del key  # Nothing here is random.
        checks.check_is(SSDState, "what init gave", state=state)
        checks.check_request(classifier, state.variables, request)
        whole, forget = state.fisher, request.forget
        if whole.batch_size is not None:
            # Minibatches of the same size, if only one that is mostly padding.
            forget = forget.take(jnp.arange(max(whole.batch_size, forget.y.shape[0])))
        share = measure(state.variables, forget)
        params, dampened = fisher.dampen(
            state.variables["params"], share, whole, alpha=alpha, strength=strength
        )
        left = fisher.without(whole, share, jnp.sum(forget.weight))
        variables = {**state.variables, "params": params}
        return SSDState(variables, left), SSDInfo(dampened)

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains="the Fisher, less the forgotten share; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)
