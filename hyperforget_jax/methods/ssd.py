"""Selective synaptic dampening: shrink the weights that matter to the forgotten."""

import warnings

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
from hyperforget_jax.forgotten import check_known, nothing_forgotten, recall, remember
from hyperforget_jax.methods.change import change
from hyperforget_jax.methods.defaults import count_of, is_share_below
from hyperforget_jax.methods.fisher_state import FisherInfo, FisherState

__all__ = ["ssd"]

# Chosen on one class of the digits (experiments/tune.py).
_ALPHA, _STRENGTH, _LEAST_SHARE = 1.0, 0.3, 0.025


def ssd(
    classifier: Classifier,
    *,
    alpha: float = _ALPHA,
    strength: float = _STRENGTH,
    estimator: str = "per_example",
    batch_size: int = 256,
) -> Unlearner:
    r"""Dampen the parameters whose Fisher on the forget data dominates.

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

    # Not where either is traced: then it is a sweep.
    is_default = checks.is_concrete(alpha, strength) and (
        (alpha, strength) == (_ALPHA, _STRENGTH)
    )

    def measure(variables, data: Examples):
        return fisher.diagonal(
            classifier, variables, data, estimator=estimator, batch_size=batch_size
        )

    def init(key: Array, variables: Variables, data: Examples) -> FisherState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        if is_default and "batch_stats" in variables:
            warnings.warn(
                f"hf.ssd: alpha={alpha} and strength={strength} were chosen on "
                "perceptrons. In networks with normalisation they can ruin the "
                "retained classes: choose both on held-out rows, and look at "
                "info.change.",
                stacklevel=2,
            )
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
            raise ValueError("state has no Fisher: make it by init of hf.ssd.")
        if is_default:
            _warn_of_share(forget, whole, state.forgotten.id.size)
        if whole.batch_size is not None:
            # Minibatches of the same size, if only one that is mostly padding.
            forget = forget.take(jnp.arange(max(whole.batch_size, forget.y.shape[0])))
        share = measure(state.variables, forget)
        params, dampened = fisher.dampen(
            state.variables["params"], share, whole, alpha=alpha, strength=strength
        )
        left = fisher.without(whole, share, forget.weight)
        variables = {**state.variables, "params": params}
        changed = change(
            classifier, state.variables, variables, forget, batch_size=batch_size
        )
        forgotten = remember(state.forgotten, request)
        return FisherState(variables, left, forgotten), FisherInfo(
            dampened, refused, changed
        )

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains="the Fisher, less the forgotten share; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)


def _warn_of_share(forget: Examples, whole: fisher.Fisher, num_rows: int) -> None:
    if whole.estimator != "per_example":
        return
    if is_share_below(_LEAST_SHARE, forget, whole.total_weight, num_rows):
        warnings.warn(
            f"hf.ssd: the defaults were chosen for one class of ten, and here are "
            f"{count_of(forget)} of {num_rows} rows. The fewer they are, the more "
            "parameters alpha=1 selects: choose alpha on held-out rows, about "
            "the inverse of the share or less, and look at info.dampened.",
            stacklevel=3,
        )
