"""FCS: flatten the forgotten, then push them apart from the retained, in rounds."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Access, Array, Classifier, Unlearner
from hyperforget_jax.methods.stateless import loss_on, stateless
from hyperforget_jax.training import loop
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["contrast", "fcs", "flatness"]


def fcs(
    classifier: Classifier,
    *,
    first_optimizer: optax.GradientTransformation | None = None,
    forget_optimizer: optax.GradientTransformation | None = None,
    optimizer: optax.GradientTransformation | None = None,
    temperature: Any = 1.15,
    rounds: int = 8,
    first_steps: int = 5,
    forget_steps: int = 5,
    retain_steps: int = 20,
    batch_size: int = 128,
) -> Unlearner:
    r"""Push forgotten logits away from any one retained row's, and fine-tune between.

    1. ``first_steps`` on ``KL(uniform || p)`` of the forgotten.
    2. ``rounds`` times: ``forget_steps`` on the contrastive loss of paired minibatches,
       the mean over all pairs of ``-log softmax(z_f z_r^T / T)``, the softmax over
       retained rows and no gradient through ``z_r``; then ``retain_steps`` on
       cross-entropy of the retained.

    First of the unlearning challenge of NeurIPS 2023. The contrastive loss is least
    where a forgotten row is equally similar to all retained ones. Published steps are
    whole passes, of 256 rows a minibatch; here they are counted, so that padding
    decides nothing. Evaluation mode; published in training mode, where normalisation
    statistics move. Each optimiser goes on from round to round.

    It reads both halves of the data when a request comes.

    Args:
        classifier: the model.
        first_optimizer: of the first part; by default SGD at 5e-3, momentum 0.9.
        forget_optimizer: of the contrastive steps; by default SGD from 3e-4 to 1e-6 by
            a cosine, momentum 0.9.
        optimizer: of the retained data; by default SGD at ``1e-3 * batch_size / 64``,
            momentum 0.9, weight decay 0.01. All three are the published ones.
        temperature: T; published, as are the rounds.
        rounds: how often both kinds of steps are taken.
        first_steps, forget_steps, retain_steps: minibatches, the latter two a round.
        batch_size: rows a minibatch.

    References:
        Cadet et al., Deep Unlearn: benchmarking machine unlearning for image
        classification, arXiv 2410.01276, 2024, which runs the winners anew.
        Triantafillou et al., Are we making progress in unlearning? Findings from the
        first NeurIPS unlearning competition, arXiv 2406.09073, 2024.
    """
    checks.check_positive(temperature=temperature)
    checks.check_sizes(rounds=rounds, first_steps=first_steps, batch_size=batch_size)
    checks.check_sizes(forget_steps=forget_steps, retain_steps=retain_steps)
    if first_optimizer is None:
        first_optimizer = optax.sgd(5e-3, momentum=0.9)
    if forget_optimizer is None:
        total = rounds * forget_steps
        rate = optax.cosine_decay_schedule(3e-4, total, alpha=1e-6 / 3e-4)
        forget_optimizer = optax.sgd(rate, momentum=0.9)
    if optimizer is None:
        sgd = optax.sgd(1e-3 * batch_size / 64, momentum=0.9)
        optimizer = optax.chain(optax.add_decayed_weights(1e-2), sgd)
    for each in (first_optimizer, forget_optimizer, optimizer):
        check_optimizer(each)

    def flatten(variables, forget):
        values = flatness(classifier.apply(variables, forget.x))
        return losses.weighted_mean(values, forget.weight)

    def push(variables, forget, retain):
        apart = lax.stop_gradient(classifier.apply(variables, retain.x))
        values = contrast(classifier.apply(variables, forget.x), apart, temperature)
        return losses.weighted_mean(values, forget.weight)

    def fit(variables, retain):
        return loss_on(classifier, variables, retain)

    def forget_fn(key, variables, request):
        keys = jax.random.split(key, 3)
        forget, retain = (request.forget, True), (request.retain, False)

        def part(key, loss, reads, optimizer, steps):
            sources, padded = zip(*reads, strict=True)
            sizes = {"steps": steps, "batch_size": batch_size, "padded": padded}

            def loss_fn(key, variables, batches):
                del key  # Evaluation mode draws nothing.
                examples = (batch.examples for batch in batches)
                return loss(variables, *examples), variables

            def run(state, number):
                given = key, loss_fn, state, sources, optimizer
                return loop.run_steps(*given, first_step=number * steps, **sizes)

            return run

        first = part(keys[0], flatten, [forget], first_optimizer, first_steps)
        pushing = part(keys[1], push, [forget, retain], forget_optimizer, forget_steps)
        fitting = part(keys[2], fit, [retain], optimizer, retain_steps)

        def one_round(carry, number):
            # One model, and the state of either optimiser.
            state, fit_state = carry
            state, pushed = pushing(state, number)
            push_state = state.opt_state
            state, fitted = fitting(state._replace(opt_state=fit_state), number)
            losses_seen = jnp.concatenate([pushed, fitted])
            return (state._replace(opt_state=push_state), state.opt_state), losses_seen

        state, flattened = first(loop.init(variables, first_optimizer), 0)
        start = state._replace(opt_state=forget_optimizer.init(variables["params"]))
        carry = start, optimizer.init(variables["params"])
        numbers = jnp.arange(rounds, dtype=jnp.int32)
        (state, _), seen = lax.scan(one_round, carry, numbers)
        seen = jnp.concatenate([flattened, seen.reshape(-1)])
        return state.variables, loop.LoopInfo(seen, state.failed_at)

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def flatness(logits: Array) -> Array:
    """Compute ``KL(uniform || p)`` of logits ``[N, C]``, ``[N]``."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -jnp.mean(log_p, axis=-1) - jnp.log(logits.shape[-1])


def contrast(forget: Array, retain: Array, temperature: Any) -> Array:
    """Compute means of ``-log softmax(z_f z_r^T / T)``, of ``[N, C]``, ``[M, C]``."""
    alike = jnp.matmul(forget.astype(jnp.float32), retain.astype(jnp.float32).T)
    return -jnp.mean(jax.nn.log_softmax(alike / temperature, axis=-1), axis=-1)
