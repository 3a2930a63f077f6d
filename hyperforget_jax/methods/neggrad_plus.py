"""Down on the retained, up on the forgotten: the strong simple baseline."""

import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.defaults import warn_of_few_rows
from hyperforget_jax.methods.unprepared import loss_on, unprepared
from hyperforget_jax.training import descent
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["neggrad_plus"]

# Chosen on one class of the digits (experiments/tune.py), which has so many rows.
_STEPS, _BATCH_SIZE, _CHOSEN_AT = 50, 128, 150


def neggrad_plus(
    classifier: Classifier,
    *,
    beta: float = 0.95,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = _STEPS,
    batch_size: int = _BATCH_SIZE,
) -> Unlearner:
    r"""Minimises ``beta * CE(retain) + (1 - beta) * unlikelihood(forget)``.

    NegGrad+ (Kurmanji et al., Towards unbounded machine unlearning,
    arXiv 2302.09880, 2023), with the bounded unlikelihood in the place of negated
    cross-entropy. It reads both halves of the data when a request comes. The defaults
    were chosen by ``experiments/tune.py``.

    Args:
        classifier: the model.
        beta: weight of the retained data, in (0, 1).
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches of each half.
        batch_size: rows a minibatch, of each half.

    Raises:
        ValueError: ``beta`` outside (0, 1).
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(steps=steps, batch_size=batch_size)
    if checks.is_concrete(beta) and not 0 < beta < 1:
        raise ValueError(f"beta must lie in (0, 1), got {beta=}.")
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    check_optimizer(optimizer)

    def loss_fn(key, variables, batches):
        del key  # Evaluation mode draws nothing.
        retain, forget = (batch.examples for batch in batches)
        kept = loss_on(classifier, variables, retain)
        gone = loss_on(classifier, variables, forget, losses.unlikelihood)
        return beta * kept + (1 - beta) * gone, variables

    is_default = (steps, batch_size) == (_STEPS, _BATCH_SIZE)

    def forget_fn(key, variables, request):
        if is_default:
            warn_of_few_rows(
                "hf.neggrad_plus",
                request.forget,
                steps=steps,
                batch_size=batch_size,
                chosen_at=_CHOSEN_AT,
            )
        return descent.run(
            key,
            loss_fn,
            variables,
            (request.retain, request.forget),
            optimizer,
            steps=steps,
            batch_size=batch_size,
            padded=(False, True),
        )

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return unprepared(classifier, forget_fn, access)
