"""UNSIR: impair by noise that stands for a class, then repair on what is retained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.stateless import loss_on, stateless
from hyperforget_jax.training import loop
from hyperforget_jax.training.config import FitConfig

__all__ = ["error_maximising_noise", "unsir"]


def unsir(
    classifier: Classifier,
    *,
    penalty: float = 0.1,
    noise_steps: int = 40,
    impair_optimizer: optax.GradientTransformation | None = None,
    impair_steps: int = 20,
    repair_optimizer: optax.GradientTransformation | None = None,
    repair_steps: int = 40,
    batch_size: int = 256,
) -> Unlearner:
    """Teach the forgotten classes on inputs that are nothing like them, then repair.

    For requests of classes. Noise is made with the largest error as one of the
    forgotten classes, then learnt under that label beside the retained examples
    (impair), then the retained examples alone are learnt (repair). No example of a
    forgotten class is read.

    What is built is what was meant: a whole minibatch of noise, shared among the
    forgotten classes and labelled by them, each half of an impairing step with the same
    weight. The authors' notebook takes three images of each batch of noise, as many as
    there are channels, in twenty identical copies, and labels them 0 whatever class is
    forgotten. Normalisation statistics stay.

    It reads the requested classes and the retained data when a request comes. Penalty,
    noise steps and batch size are the authors', and so are the optimisers; the other
    numbers of steps, where they take one epoch each, are not tuned.

    Args:
        classifier: the model.
        penalty: weight of the noise's mean squared norm against its error.
        noise_steps: steps on the noise.
        impair_optimizer: any optax optimiser; by default ``optax.adam(0.02)``.
        impair_steps: minibatches of noise and of retained examples.
        repair_optimizer: any optax optimiser; by default ``optax.adam(0.01)``.
        repair_steps: minibatches of retained examples.
        batch_size: rows a minibatch, and of noise.

    Raises:
        TypeError, ValueError: ``penalty`` is no number, negative or infinite; at a
            request, inputs that are no floats, or a request for rows. (Under ``jit``,
            where that is not seen, the model learns the retained examples alone.)

    References:
        Tarun et al., Fast yet effective machine unlearning, arXiv 2111.08947, 2021.
    """
    checks.check_factor(penalty=penalty)
    checks.check_sizes(
        noise_steps=noise_steps,
        impair_steps=impair_steps,
        repair_steps=repair_steps,
        batch_size=batch_size,
    )
    if impair_optimizer is None:
        impair_optimizer = optax.adam(0.02)
    if repair_optimizer is None:
        repair_optimizer = optax.adam(0.01)
    kind = "an optax.GradientTransformation, such as optax.adam(0.01)"
    checks.check_is(
        optax.GradientTransformation,
        kind,
        impair_optimizer=impair_optimizer,
        repair_optimizer=repair_optimizer,
    )
    impair = FitConfig(impair_optimizer, impair_steps, batch_size)
    repair = FitConfig(repair_optimizer, repair_steps, batch_size)

    def loss(variables, *halves):
        means = [loss_on(classifier, variables, half) for half in halves]
        return jnp.mean(jnp.stack(means))

    def forget_fn(key, variables, request):
        if (
            checks.is_concrete(request.classes)
            and not np.asarray(request.classes).any()
        ):
            raise ValueError(
                "request must be for classes, which hf.rivals.unsir makes noise for, "
                "and is for single rows: use hf.forget_classes, or another method."
            )
        key_noise, key_impair, key_repair = jax.random.split(key, 3)
        retain = request.retain
        noise = error_maximising_noise(
            key_noise,
            classifier,
            variables,
            retain.x,
            request.classes,
            penalty=penalty,
            steps=noise_steps,
            rows=batch_size,
        )
        variables, first = impair.minimise(key_impair, loss, variables, (retain, noise))
        variables, second = repair.minimise(key_repair, loss, variables, (retain,))
        later = jnp.where(second.failed_at < 0, -1, impair_steps + second.failed_at)
        return variables, loop.LoopInfo(
            jnp.concatenate([first.loss, second.loss]),
            jnp.where(first.failed_at < 0, later, first.failed_at),
        )

    access = Access(unlearn={"retain", "classes"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


# The authors' of UNSIR, by Adam.
_LEARNING_RATE = 0.1


def error_maximising_noise(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    x: Array,
    classes: Array,
    *,
    penalty: float | Array,
    steps: int,
    rows: int,
) -> Examples:
    """Make inputs of the largest cross-entropy under labels of the given classes.

    Args:
        key: a typed key, consumed.
        classifier: the model, in evaluation mode.
        variables: its variables.
        x: inputs, floating point, ``[N, ...]``; only shape and dtype are used.
        classes: bool, ``[C]``, whose labels take turns; none, and all rows weigh zero.
        penalty: weight of the mean over rows of the inputs' squared norms.
        steps: of Adam, from standard normal noise on.
        rows: how many.

    Raises:
        TypeError: inputs that are no floats.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"data.x must be floating point for noise to be made of it, got {x.dtype}."
        )
    count = jnp.sum(classes, dtype=jnp.int32)
    wanted = jnp.argsort(~classes, stable=True).astype(jnp.int32)
    place = jnp.arange(rows, dtype=jnp.int32)
    y = wanted[place % jnp.maximum(count, 1)]
    weight = jnp.broadcast_to((count > 0).astype(jnp.int32), y.shape)
    noise = jax.random.normal(key, (rows, *x.shape[1:]), x.dtype)
    optimizer = optax.adam(_LEARNING_RATE)

    def loss(noise):
        errors = losses.cross_entropy(classifier.apply(variables, noise), y)
        squares = jnp.sum(jnp.square(noise), axis=tuple(range(1, noise.ndim)))
        return penalty * jnp.mean(squares) - jnp.mean(errors)

    def step(carry, _):
        noise, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(loss)(noise), opt_state)
        return (optax.apply_updates(noise, updates), opt_state), None

    start = noise, optimizer.init(noise)
    (noise, _), _ = lax.scan(step, start, length=steps)
    return Examples(noise, y, weight, jnp.full_like(y, -1))
