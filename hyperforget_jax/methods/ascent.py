"""Gradient ascent on the forget data, with nothing else at hand."""

import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.methods.defaults import warn_of_driven_out, warn_of_few_rows
from hyperforget_jax.methods.stateless import loss_on, optimising

__all__ = ["ascent"]

# Chosen on one class of the digits (experiments/tune.py), which has so many rows.
_STEPS, _BATCH_SIZE, _ROWS = 20, 128, 150

_OBJECTIVES = {
    "unlikelihood": losses.unlikelihood,
    "cross_entropy": lambda logits, y: -losses.cross_entropy(logits, y),
}


def ascent(
    classifier: Classifier,
    *,
    objective: str = "unlikelihood",
    optimizer: optax.GradientTransformation | None = None,
    steps: int = _STEPS,
    batch_size: int = _BATCH_SIZE,
) -> Unlearner:
    """Make the forgotten labels unlikely, step by step, on the forget data alone.

    The defaults were chosen by ``experiments/tune.py``, for a class. Nothing holds what
    stays: single rows of all classes make every label unlikely, as a warning says.

    Args:
        classifier: the model.
        objective: ``"unlikelihood"`` minimises ``-log(1 - p_y)``, whose gradient
            vanishes once a label is out; ``"cross_entropy"`` is plain gradient ascent
            on ``-log p_y``, which has no bound and ruins the model if it is let.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches.
        batch_size: rows a minibatch.

    Raises:
        ValueError: unknown objective.
    """
    checks.check_one_of("objective", objective, sorted(_OBJECTIVES))

    def loss(variables, forget):
        return loss_on(classifier, variables, forget, _OBJECTIVES[objective])

    def notice(request):
        chosen_at = _STEPS, _BATCH_SIZE, _ROWS
        sizes = {"steps": steps, "batch_size": batch_size, "chosen_at": chosen_at}
        warn_of_few_rows("hf.ascent", request, **sizes)
        if optimizer is None and (steps, batch_size) == (_STEPS, _BATCH_SIZE):
            warn_of_driven_out(
                "hf.ascent",
                request.classes,
                request.forget,
                request.data.weight,
                "Take fewer steps, or hf.neggrad_plus, which reads what stays too",
            )

    return optimising(
        classifier,
        loss,
        ("forget",),
        optax.adam(1e-3) if optimizer is None else optimizer,
        steps=steps,
        batch_size=batch_size,
        notice=notice,
    )
