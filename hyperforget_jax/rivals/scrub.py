"""SCRUB: away from the teacher on the forgotten, near to it on the retained."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.rivals.distillation import divergence
from hyperforget_jax.training import loop
from hyperforget_jax.training.minibatches import active_epoch_length, epoch_length
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["ScrubFn", "scrub", "scrubbing"]

ScrubFn = Callable[..., tuple[Variables, loop.LoopInfo, Any]]
"""``(key, variables, request, keep=...) -> (variables, info, what was kept)``."""

# Of Adam, far above the rounding errors that the first gradients of maximising consist
# of: by its own default it would make full steps of them.
_EPS = 1e-5


def scrub(
    classifier: Classifier,
    *,
    alpha: float = 0.5,
    gamma: float = 1.0,
    temperature: float = 2.0,
    epochs: int = 10,
    max_epochs: int = 3,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 128,
    forget_batch_size: int = 32,
) -> Unlearner:
    """Leave the teacher's predictions on the forgotten, and keep them on the retained.

    Teacher and first student are the model that is given. Each of the first
    ``max_epochs`` epochs goes once through the forgotten examples and maximises the
    divergence from the teacher's predictions to the student's; every epoch then goes
    once through the retained ones and minimises ``gamma * cross-entropy + alpha *
    divergence``. One optimiser, with its momentum, serves both. The divergence is
    ``T^2 * KL``, summed over classes and averaged over rows, and is not bounded: too
    large a step on the forgotten ruins the model. It is least where teacher and student
    are one, so that the first steps on the forgotten have no gradient to follow.
    Normalisation statistics stay, where the authors' student moves them.

    It reads both halves of the data when a request comes. The defaults are those of the
    authors' small experiments, without their decays of weights and of the learning
    rate, and not tuned. ``info.loss`` shows the steps on retained examples.

    Args:
        classifier: the model.
        alpha: weight of the divergence on retained examples.
        gamma: weight of their cross-entropy.
        temperature: T, by which logits are divided.
        epochs: how many times the retained examples are gone through.
        max_epochs: how many times the forgotten ones are.
        optimizer: any optax optimiser; by default ``optax.adam(5e-4, eps=1e-5)``, since
            Adam makes full steps of rounding errors that are above its ``eps``.
        batch_size: retained rows a minibatch.
        forget_batch_size: forgotten rows a minibatch.

    Raises:
        TypeError, ValueError: a weight that is no number, negative or infinite, a
            temperature that is not positive, or ``max_epochs`` above ``epochs``.

    References:
        Kurmanji et al., Towards unbounded machine unlearning, arXiv 2302.09880, 2023.
    """
    scrub_fn = scrubbing(
        classifier,
        alpha=alpha,
        gamma=gamma,
        temperature=temperature,
        epochs=epochs,
        max_epochs=max_epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        forget_batch_size=forget_batch_size,
    )

    def forget_fn(key, variables, request):
        variables, info, _ = scrub_fn(key, variables, request)
        return variables, info

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def scrubbing(
    classifier: Classifier,
    *,
    alpha: float,
    gamma: float,
    temperature: float,
    epochs: int,
    max_epochs: int,
    optimizer: optax.GradientTransformation | None,
    batch_size: int,
    forget_batch_size: int,
) -> ScrubFn:
    """Make the two alternating loops; arguments and errors as for :func:`scrub`.

    Returns:
        A function of key, variables and request, that may be told what to ``keep`` of
        the model after each epoch, ``variables -> tree``. It returns the last model,
        how the loop went, and what was kept, leaves ``[epochs, ...]``.
    """
    checks.check_is_classifier(classifier)
    checks.check_factor(alpha=alpha, gamma=gamma, temperature=temperature)
    checks.check_positive(temperature=temperature)
    checks.check_sizes(
        epochs=epochs,
        max_epochs=max_epochs,
        batch_size=batch_size,
        forget_batch_size=forget_batch_size,
    )
    if max_epochs > epochs:
        raise ValueError(
            f"max_epochs must be at most epochs, got {max_epochs=} of {epochs=}."
        )
    if optimizer is None:
        optimizer = optax.adam(5e-4, eps=_EPS)
    check_optimizer(optimizer)
    chosen = optimizer

    def scrub_fn(
        key: Array,
        variables: Variables,
        request: ForgetRequest,
        keep: Callable[[Variables], Any] = lambda variables: None,
    ):
        key_max, key_min = jax.random.split(key)
        retain, forget, teacher = request.retain, request.forget, variables
        steps = epoch_length(retain.y.shape[0], batch_size)
        # Padding makes the loop longer, and the epoch not.
        max_steps = epoch_length(forget.y.shape[0], forget_batch_size)
        counted = active_epoch_length(forget.weight, forget_batch_size)

        def distance(logits, x):
            return divergence(classifier.apply(teacher, x), logits, temperature)

        def max_loss(key, variables, batches):
            del key  # Evaluation mode draws nothing.
            x, _, weight, _ = batches[0].examples
            far = distance(classifier.apply(variables, x), x)
            return -losses.weighted_mean(far, weight), variables

        def min_loss(key, variables, batches):
            del key
            x, y, weight, _ = batches[0].examples
            logits = classifier.apply(variables, x)
            each = gamma * losses.cross_entropy(logits, y) + alpha * distance(logits, x)
            return losses.weighted_mean(each, weight), variables

        def maximise(state, epoch):
            later, _ = loop.run_steps(
                key_max,
                max_loss,
                state,
                (forget,),
                chosen,
                steps=max_steps,
                batch_size=forget_batch_size,
                first_step=epoch * counted,
                padded=(True,),
                limit=(epoch + 1) * counted,
            )
            # A failure here is told as one of the step on the retained that follows.
            failed = (state.failed_at < 0) & (later.failed_at >= 0)
            return later._replace(
                failed_at=jnp.where(failed, epoch * steps, later.failed_at)
            )

        def minimise(state, epoch):
            state, loss = loop.run_steps(
                key_min,
                min_loss,
                state,
                (retain,),
                chosen,
                steps=steps,
                batch_size=batch_size,
                first_step=epoch * steps,
            )
            return state, (loss, keep(state.variables))

        def both(state, epoch):
            return minimise(maximise(state, epoch), epoch)

        state = loop.init(variables, chosen)
        state, first = lax.scan(both, state, jnp.arange(max_epochs))
        state, rest = lax.scan(minimise, state, jnp.arange(max_epochs, epochs))
        loss, kept = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, rest)
        return state.variables, loop.LoopInfo(loss.ravel(), state.failed_at), kept

    return scrub_fn
