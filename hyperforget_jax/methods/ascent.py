"""Climbing the loss of the forgotten, with nothing else at hand."""

import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.defaults import warn_of_few_rows
from hyperforget_jax.methods.unprepared import loss_on, unprepared
from hyperforget_jax.training import descent
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["ascent"]

# Chosen on one class of the digits (experiments/tune.py), which has so many rows.
_STEPS, _BATCH_SIZE, _CHOSEN_AT = 20, 128, 150

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
    """Makes the forgotten labels unlikely, step by step, on the forget data alone.

    The defaults were chosen by ``experiments/tune.py``.

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
    checks.check_is_classifier(classifier)
    checks.check_sizes(steps=steps, batch_size=batch_size)
    if objective not in _OBJECTIVES:
        raise ValueError(
            f"objective must be one of {sorted(_OBJECTIVES)}, got {objective!r}."
        )
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    check_optimizer(optimizer)

    def loss_fn(key, variables, batches):
        del key  # Evaluation mode draws nothing.
        examples = batches[0].examples
        return loss_on(
            classifier, variables, examples, _OBJECTIVES[objective]
        ), variables

    is_default = (steps, batch_size) == (_STEPS, _BATCH_SIZE)

    def forget_fn(key, variables, request):
        if is_default:
            warn_of_few_rows(
                "hf.ascent",
                request.forget,
                steps=steps,
                batch_size=batch_size,
                chosen_at=_CHOSEN_AT,
            )
        return descent.run(
            key,
            loss_fn,
            variables,
            (request.forget,),
            optimizer,
            steps=steps,
            batch_size=batch_size,
            padded=(True,),
        )

    access = Access(unlearn={"forget"}, remains="normalisation statistics")
    return unprepared(classifier, forget_fn, access)
