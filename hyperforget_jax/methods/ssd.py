"""Selective synaptic dampening: shrink the weights that matter to the forgotten."""

import warnings

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import (
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.methods.dampening import FisherState, dampening
from hyperforget_jax.methods.defaults import count_of, is_share_below

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
    checks.check_positive(alpha=alpha)
    # Not where either is traced: then it is a sweep.
    is_default = checks.is_concrete(alpha, strength) and (
        (alpha, strength) == (_ALPHA, _STRENGTH)
    )

    def measure(variables: Variables, data: Examples) -> Fisher:
        return fisher.diagonal(
            classifier, variables, data, estimator=estimator, batch_size=batch_size
        )

    def notice(request: ForgetRequest, state: FisherState) -> None:
        if is_default and state.fisher is not None:
            rows = state.forgotten.id.size
            _warn_of_share(request.forget, state.fisher, rows)

    method = dampening(
        classifier,
        measure,
        lambda forget, data: alpha,
        strength=strength,
        batch_size=batch_size,
        kept="the Fisher",
        notice=notice,
    )

    def init(key: Array, variables: Variables, data: Examples) -> FisherState:
        state = method.init(key, variables, data)
        if is_default and "batch_stats" in variables:
            warnings.warn(
                f"hf.ssd: alpha={alpha} and strength={strength} were chosen on "
                "perceptrons. In networks with normalisation they can ruin the "
                "retained classes: choose both on held-out rows, and look at "
                "info.change.",
                stacklevel=2,
            )
        return state

    return method._replace(init=init)


def _warn_of_share(forget: Examples, whole: Fisher, num_rows: int) -> None:
    if whole.estimator != "per_example":
        return
    if is_share_below(_LEAST_SHARE, forget, whole.total_weight, num_rows):
        warnings.warn(
            f"hf.ssd: the defaults were chosen for one class of ten, and here are "
            f"{count_of(forget)} of {num_rows} rows. The fewer they are, the more "
            "parameters alpha=1 selects: choose alpha on held-out rows, about "
            "the inverse of the share or less, and look at info.dampened.",
            stacklevel=4,
        )
