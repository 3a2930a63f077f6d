"""Selective synaptic dampening: shrink the weights that matter to the forgotten."""

from typing import Any, NamedTuple

import jax
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
        fisher: diagonal Fisher of the training data that are left, like ``params``.
        mass: what that Fisher is a mean over: the sum of weights, or the number of
            minibatches under the batch-gradient estimator, float32, ``[]``.
    """

    variables: Variables
    fisher: Any
    mass: Array


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
    checks.check_positive(alpha=alpha, strength=strength, batch_size=batch_size)

    def measure(variables, data: Examples):
        return fisher.diagonal(
            classifier, variables, data, estimator=estimator, batch_size=batch_size
        )

    def mass_of(data: Examples) -> Array:
        mass = jnp.sum(data.weight).astype(jnp.float32)
        if estimator == "per_example":
            return mass
        # The forgotten share of the minibatches, which are not cut where requests are.
        return mass / min(batch_size, data.y.shape[0])

    def init(key: Array, variables: Variables, data: Examples) -> SSDState:
        del key  # Nothing here is random.
        return SSDState(variables, measure(variables, data), mass_of(data))

    def unlearn(key: Array, state: SSDState, request: ForgetRequest):
        del key  # Nothing here is random.
        checks.check_request(classifier, state.variables, request)
        forget = request.forget
        forget_fisher = measure(state.variables, forget)
        params, dampened = fisher.dampen(
            state.variables["params"],
            forget_fisher,
            state.fisher,
            alpha=alpha,
            strength=strength,
        )
        mass = state.mass - mass_of(forget)
        # The first Fisher was taken at other weights, so a share may exceed the whole.
        left = jax.tree.map(
            lambda d, f: (
                jnp.maximum(d * state.mass - f * mass_of(forget), 0)
                / jnp.where(mass > 0, mass, 1)
            ),
            state.fisher,
            forget_fisher,
        )
        variables = {**state.variables, "params": params}
        return SSDState(variables, left, mass), SSDInfo(dampened)

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains="the Fisher, less the forgotten share; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)
