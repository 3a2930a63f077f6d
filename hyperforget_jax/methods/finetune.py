"""Training on, without the forgotten: the oldest baseline."""

import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.unprepared import loss_on, unprepared
from hyperforget_jax.training import descent
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["finetune"]


def finetune(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 128,
) -> Unlearner:
    """Minimises cross-entropy on the retained examples, from the current model on.

    Whatever is forgotten is forgotten by neglect. Normalisation statistics stay. It
    reads the retained data when a request comes. The defaults were chosen by
    ``experiments/tune.py``.

    Args:
        classifier: the model.
        optimizer: any optax optimiser; ``optax.adam(1e-2)`` by default.
        steps: minibatches.
        batch_size: rows a minibatch.
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(steps=steps, batch_size=batch_size)
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    check_optimizer(optimizer)

    def loss_fn(key, variables, batches):
        del key  # Evaluation mode draws nothing.
        return loss_on(classifier, variables, batches[0].examples), variables

    def forget_fn(key, variables, request):
        return descent.run(
            key,
            loss_fn,
            variables,
            (request.retain,),
            optimizer,
            steps=steps,
            batch_size=batch_size,
        )

    access = Access(unlearn={"retain"}, remains="normalisation statistics")
    return unprepared(classifier, forget_fn, access)
