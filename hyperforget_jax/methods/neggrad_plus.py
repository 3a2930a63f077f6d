"""Down on the retained, up on the forgotten: the strong simple baseline."""

import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.memoryless import loss_on, memoryless
from hyperforget_jax.training import descent
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["neggrad_plus"]


def neggrad_plus(
    classifier: Classifier,
    *,
    beta: float = 0.95,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 50,
    batch_size: int = 128,
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

    def forget_fn(key, variables, request):
        return descent.run(
            key,
            loss_fn,
            variables,
            (request.retain, request.forget),
            optimizer,
            steps=steps,
            batch_size=batch_size,
        )

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return memoryless(classifier, forget_fn, access)
