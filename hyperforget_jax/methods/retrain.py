"""Training anew on the retained data: the reference, and the cost that others save."""

import jax
import optax

from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.training.config import FitConfig
from hyperforget_jax.training.fit import Augment, training_loss

__all__ = ["retrain"]


def retrain(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch_size: int = 128,
    augment: Augment | None = None,
) -> Unlearner:
    """Train from a fresh start on the retained examples, as ``hf.fit`` would.

    Its result does not depend on the forgotten rows' contents by a single bit, which
    is the definition of retraining. It is a reference only if it gets the recipe of the
    original, so the recipe has no defaults here.

    It reads the retained data when a request comes.

    Args:
        classifier: the model.
        optimizer: the optimiser that the original was trained with.
        steps: the steps that the original was trained for.
        batch_size: rows a minibatch.
        augment: as for ``hf.fit``.
    """
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        key_init, key_loop = jax.random.split(key)
        retain = request.retain
        fresh = classifier.init(key_init, retain.x)
        # A fresh start: of the model at hand the dtypes alone are kept.
        fresh = {
            name: optax.tree.cast_like(tree, variables.get(name, tree))
            for name, tree in fresh.items()
        }
        loss_fn = training_loss(classifier, augment)
        return config.run(key_loop, loss_fn, fresh, (retain,))

    return stateless(classifier, forget_fn, Access(unlearn={"retain"}))
