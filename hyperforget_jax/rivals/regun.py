"""ReGUn: the forgotten examples are answered as held-out ones of their class are."""

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.stateless import loss_on
from hyperforget_jax.models import predictions
from hyperforget_jax.rivals.rewinding import holding_probe
from hyperforget_jax.training.config import FitConfig

__all__ = ["held_out_predictions", "regun"]


def regun(
    classifier: Classifier,
    *,
    probe: Examples,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 128,
) -> Unlearner:
    """Distil what the model says of unseen examples into the forgotten ones.

    The target of a forgotten example is the mean prediction for held-out examples of
    its class, by the model as it is given. Where no retained example is left of a
    class, the class goes: its held-out examples go with it, and the target is the mean
    over all others. A step takes a minibatch of either half, cross-entropy on retained
    labels and divergence from the targets on the forgotten, of the same weight.

    As it is published, a minibatch of the forgotten has one target, the mean over a few
    held-out examples in the same proportions of classes: so examples of many classes
    are all taught the same mixture of them, which no unseen example is answered with.
    The target by class is what the name says, and is the same for minibatches of one
    class. (A public summary was at hand, and no code: the weights of the halves, the
    optimiser and the sizes are those of ``random_labels``, and not tuned.)
    Normalisation statistics stay.

    It reads both halves of the data when a request comes, and the probe, which is part
    of the state.

    Args:
        classifier: the model.
        probe: held-out examples, ``[M]``.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches of each half.
        batch_size: rows a minibatch, of each half.

    Raises:
        TypeError, ValueError: a malformed probe, or one that holds training examples.

    References:
        Mirlach, Vogt and Laguna, Reference-guided machine unlearning,
        arXiv 2603.11210, 2026.
    """
    checks.check_examples(probe, name="probe")
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(probe, key, variables, request):
        targets = held_out_predictions(classifier, variables, probe, request.retain)

        def loss(variables, retained, forgotten):
            logits = classifier.apply(variables, forgotten.x)
            distance = optax.losses.kl_divergence(
                jax.nn.log_softmax(logits.astype(targets.dtype)), targets[forgotten.y]
            )
            kept = loss_on(classifier, variables, retained)
            gone = losses.weighted_mean(distance, forgotten.weight)
            return (kept + gone) / 2

        sources = request.retain, request.forget
        return config.minimise(key, loss, variables, sources, (False, True))

    access = Access(
        unlearn={"retain", "forget", "probe"},
        remains="normalisation statistics; the probe",
    )
    return holding_probe(classifier, forget_fn, access, probe)


def held_out_predictions(
    classifier: Classifier, variables: Variables, probe: Examples, retain: Examples
) -> Array:
    """Average the predictions for held-out examples, class by class.

    In evaluation mode. Of the retained examples the labels are read: held-out ones of
    a class with no retained example are left out.

    Returns:
        Probabilities, at least float32, ``[C, C]``, a row a class. A class without
        held-out examples has the mean over all; zeros if there are none at all.
    """
    predicted = jax.nn.softmax(predictions.logits(classifier, variables, probe.x))
    num_classes = predicted.shape[-1]
    present = jnp.zeros(num_classes, bool).at[retain.y].max(retain.weight > 0)
    weight = jnp.where(present[probe.y], probe.weight, 0)[:, None]
    # Chosen, not multiplied by zero: zero times NaN is NaN.
    sums = jax.ops.segment_sum(
        jnp.where(weight > 0, weight * predicted, 0), probe.y, num_classes
    )
    counts = jax.ops.segment_sum(weight, probe.y, num_classes)
    means = sums / jnp.maximum(counts, 1)
    overall = jnp.sum(sums, axis=0) / jnp.maximum(jnp.sum(counts), 1)
    return jnp.where(counts > 0, means, overall[None])
