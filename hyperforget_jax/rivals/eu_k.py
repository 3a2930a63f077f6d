"""EU-k: train the last k layers anew, without the forgotten."""

import jax
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.rivals.last_layers import in_last_layers, train_part
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["eu_k"]


def eu_k(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    k: int = 1,
    batch_size: int = 128,
) -> Unlearner:
    """Train the last ``k`` layers from a fresh start on the retained examples.

    Exact unlearning of k layers, and of nothing before them: these layers stay as they
    are, by a bit. It is what it says only if the k layers get the recipe of the
    original, so the recipe has no defaults here. A layer is a dense or convolutional
    one; normalisation parameters and statistics are frozen with what comes before.

    It reads the retained data when a request comes.

    Args:
        classifier: the model, with taps.
        optimizer: the optimiser that the original was trained with.
        steps: the steps that the original was trained for.
        k: how many layers are trained.
        batch_size: rows a minibatch.

    Raises:
        ValueError: at a request, a model without taps or with fewer than ``k`` layers.

    References:
        Goel et al., Towards adversarial evaluations for inexact machine unlearning,
        arXiv 2201.06640, 2022.
    """
    checks.check_sizes(k=k, steps=steps, batch_size=batch_size)
    check_optimizer(optimizer)

    def forget_fn(key, variables, request):
        key_init, key_loop = jax.random.split(key)
        retain, params = request.retain, variables["params"]
        mask = in_last_layers(classifier, variables, retain.x, k)
        fresh = classifier.init(key_init, retain.x)["params"]
        start = jax.tree.map(
            lambda is_last, new, old: new.astype(old.dtype) if is_last else old,
            mask,
            fresh,
            params,
        )
        return train_part(
            key_loop,
            classifier,
            {**variables, "params": start},
            retain,
            mask,
            optimizer,
            steps=steps,
            batch_size=batch_size,
        )

    access = Access(
        unlearn={"retain"}, remains="all layers but k; normalisation statistics"
    )
    return stateless(classifier, forget_fn, access)
