"""SCRUB's loop: epochs of maximising and minimising, by one optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, ForgetRequest, Variables
from hyperforget_jax.rivals.distillation import divergence
from hyperforget_jax.training import loop
from hyperforget_jax.training.minibatches import active_epoch_length, epoch_length

__all__ = ["alternate"]


def alternate(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    optimizer: optax.GradientTransformation,
    *,
    alpha: float,
    gamma: float,
    temperature: float,
    epochs: int,
    max_epochs: int,
    batch_size: int,
    forget_batch_size: int,
    keep: Callable[[Variables], Any],
) -> tuple[Variables, loop.LoopInfo, Any]:
    """Train as :func:`hyperforget_jax.rivals.scrub` describes.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        variables: the teacher's, and the student's first.
        request: what is to be forgotten, with the retained data.
        optimizer: any optax optimiser.
        alpha: as there, like the others that follow.
        gamma: likewise.
        temperature: likewise.
        epochs: likewise.
        max_epochs: likewise.
        batch_size: likewise.
        forget_batch_size: likewise.
        keep: ``variables -> tree``: what to keep of the student after each epoch.

    Returns:
        The last variables, how the loop went, and what was kept, leaves
        ``[epochs, ...]``.
    """
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
            optimizer,
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
            optimizer,
            steps=steps,
            batch_size=batch_size,
            first_step=epoch * steps,
        )
        return state, (loss, keep(state.variables))

    def both(state, epoch):
        return minimise(maximise(state, epoch), epoch)

    numbers = jnp.arange(epochs, dtype=jnp.int32)
    state = loop.init(variables, optimizer)
    state, first = lax.scan(both, state, numbers[:max_epochs])
    state, rest = lax.scan(minimise, state, numbers[max_epochs:])
    loss, kept = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, rest)
    return state.variables, loop.LoopInfo(loss.ravel(), state.failed_at), kept
