"""NegGrad+: down on the retained data, up on the forgotten: a strong baseline."""

import functools

import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.methods.defaults import warn_of_few_rows
from hyperforget_jax.methods.stateless import loss_on, optimising

__all__ = ["neggrad_plus"]

# Chosen on one class of the digits (experiments/tune.py), which has so many rows.
_STEPS, _BATCH_SIZE, _ROWS = 50, 128, 150


def neggrad_plus(
    classifier: Classifier,
    *,
    beta: float = 0.95,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = _STEPS,
    batch_size: int = _BATCH_SIZE,
) -> Unlearner:
    """Minimise ``beta * CE(retain) + (1 - beta) * unlikelihood(forget)``.

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
    if checks.is_concrete(beta) and not 0 < float(beta) < 1:
        raise ValueError(f"beta must lie in (0, 1), got {beta=}.")

    def loss(variables, retain, forget):
        kept = loss_on(classifier, variables, retain)
        gone = loss_on(classifier, variables, forget, losses.unlikelihood)
        return beta * kept + (1 - beta) * gone

    return optimising(
        classifier,
        loss,
        ("retain", "forget"),
        optax.adam(1e-3) if optimizer is None else optimizer,
        steps=steps,
        batch_size=batch_size,
        notice=functools.partial(
            warn_of_few_rows,
            "hf.neggrad_plus",
            steps=steps,
            batch_size=batch_size,
            chosen_at=(_STEPS, _BATCH_SIZE, _ROWS),
        ),
    )
