"""SCRUB: away from the teacher on the forgotten, near to it on the retained."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Access, Classifier, Examples, Unlearner
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.rivals.distillation import divergence
from hyperforget_jax.rivals.rewinding import holding_probe, rewind
from hyperforget_jax.training import loop
from hyperforget_jax.training.minibatches import active_epoch_length, epoch_length
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["scrub"]

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
    probe: Examples | None = None,
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

    With a probe it is SCRUB+R: of the students after each epoch, which are all held in
    memory, the one is given whose error on the forgotten examples is nearest to the
    last one's error on held-out rows of the same classes, in the same proportions.

    It reads both halves of the data when a request comes, and the probe. The defaults
    are those of the authors' small experiments, without their decays of weights and of
    the learning rate; batch sizes are those of their large ones. They are not tuned.
    ``info.loss`` shows the steps on retained examples.

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
        probe: held-out examples to rewind by; None for the last student.

    Raises:
        TypeError, ValueError: a weight that is no number, negative or infinite, a
            temperature that is not positive, ``max_epochs`` above ``epochs``, or a
            malformed probe or one that holds training examples.

    References:
        Kurmanji et al., Towards unbounded machine unlearning, arXiv 2302.09880, 2023.
    """
    checks.check_factor(alpha=alpha, gamma=gamma, temperature=temperature)
    checks.check_positive(temperature=temperature)
    checks.check_sizes(epochs=epochs, max_epochs=max_epochs, batch_size=batch_size)
    checks.check_sizes(forget_batch_size=forget_batch_size)
    if max_epochs > epochs:
        raise ValueError(
            f"max_epochs must be at most epochs, got {max_epochs=} of {epochs=}."
        )
    if probe is not None:
        checks.check_examples(probe, name="probe")
    chosen = optax.adam(5e-4, eps=_EPS) if optimizer is None else optimizer
    check_optimizer(chosen)

    def answer(key, variables, request, keep):
        """Train; also give what ``keep`` gives of the student after each epoch."""
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
            # A failure here counts as one of the step on the retained that follows.
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

        numbers = jnp.arange(epochs, dtype=jnp.int32)
        state = loop.init(variables, chosen)
        state, first = lax.scan(both, state, numbers[:max_epochs])
        state, rest = lax.scan(minimise, state, numbers[max_epochs:])
        loss, kept = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), first, rest)
        return state.variables, loop.LoopInfo(loss.ravel(), state.failed_at), kept

    def forget_fn(key, variables, request):
        return answer(key, variables, request, lambda student: None)[:2]

    def rewinding_fn(probe, key, variables, request):
        _, info, students = answer(key, variables, request, lambda student: student)
        return rewind(classifier, students, request.forget, probe), info

    reads, remains = {"retain", "forget"}, "normalisation statistics"
    if probe is None:
        return stateless(classifier, forget_fn, Access(unlearn=reads, remains=remains))
    access = Access(unlearn=reads | {"probe"}, remains=f"{remains}; the probe")
    return holding_probe(classifier, rewinding_fn, access, probe)
