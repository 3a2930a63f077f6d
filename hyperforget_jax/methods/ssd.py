"""Selective synaptic dampening: shrink the weights that matter to the forgotten."""

from hyperforget_jax import fisher
from hyperforget_jax.base import Classifier, Examples, Unlearner, Variables
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.methods.dampening import dampening

__all__ = ["ssd"]


def ssd(
    classifier: Classifier,
    *,
    alpha: float | None = None,
    strength: float = 0.3,
    estimator: str = "per_example",
    batch_size: int = 256,
) -> Unlearner:
    r"""Dampen the parameters whose Fisher on the forget data dominates.

    ``init`` reads the training data once. A request reads the forget data alone, and
    takes their share out of the Fisher that is kept, at the weights of that time.

    With the exact Fisher ``F_f / F_D <= 1 / pi`` for a forget set that is the share
    ``pi`` of the data, so that ``alpha >= 1 / pi`` selects nothing: the published
    ``alpha=10, strength=1`` does nothing to one class of ten. A threshold that was
    tuned on one network or one share ruins others, so by default it follows from the
    request: that is safe, and forgets less than one that is tuned.

    Args:
        classifier: the model.
        alpha: selection threshold on ``F_f / F_D``; by default that of
            :func:`hyperforget_jax.methods.dampening.adaptive_alpha`.
        strength: ``lambda``: a chosen weight keeps ``lambda * F_D / F_f`` of itself.
        estimator: of the Fisher, see :func:`hyperforget_jax.fisher.diagonal`.
        batch_size: rows at once.

    References:
        Foster et al., Fast machine unlearning without retraining through selective
        synaptic dampening, arXiv 2308.07707, 2024.
    """

    def measure(variables: Variables, data: Examples) -> Fisher:
        return fisher.diagonal(
            classifier, variables, data, estimator=estimator, batch_size=batch_size
        )

    return dampening(
        classifier,
        measure,
        alpha,
        strength=strength,
        batch_size=batch_size,
        kept="the Fisher",
    )
