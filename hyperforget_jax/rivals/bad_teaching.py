"""Bad teaching: the model learns what it forgets from one that knows nothing."""

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.rivals.distillation import divergence
from hyperforget_jax.training.config import FitConfig

__all__ = ["bad_teaching"]


def bad_teaching(
    classifier: Classifier,
    *,
    retained_share: float = 0.3,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 256,
) -> Unlearner:
    """Distil a fresh model on the forgotten examples, and the old one on the others.

    The student starts as the model that is given, which is also the good teacher. The
    bad one is drawn anew for each request and never trained. Minibatches are drawn from
    the forgotten examples and a share of the retained ones, in proportion to their
    numbers; the loss is the mean divergence from each example's own teacher. Published
    code divides it by the number of classes too, by the default mean of a PyTorch loss:
    not so here, which Adam does not feel, and other optimisers do. No label is learnt.
    Normalisation statistics stay.

    It reads both halves of the data when a request comes. Share, optimiser and batch
    size are the authors'; the number of steps, where they take one epoch, is not tuned.

    Args:
        classifier: the model.
        retained_share: chance of each retained example to be one of the others, in
            (0, 1].
        optimizer: any optax optimiser; by default ``optax.adam(1e-4)``.
        steps: minibatches.
        batch_size: rows a minibatch.

    Raises:
        ValueError: ``retained_share`` outside (0, 1].

    References:
        Chundawat et al., Can bad teaching induce forgetting? Unlearning in deep
        networks using an incompetent teacher, arXiv 2205.08096, 2022.
    """
    if checks.is_concrete(retained_share) and not 0 < retained_share <= 1:
        raise ValueError(f"retained_share must lie in (0, 1], got {retained_share=}.")
    optimizer = optax.adam(1e-4) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        key_bad, key_share, key_loop = jax.random.split(key, 3)
        retain, good = request.retain, variables
        fresh = classifier.init(key_bad, retain.x)
        # An output mask is no part of a fresh model, and holds for both teachers.
        bad = {**variables, **fresh}
        weight = request.data.weight
        is_forgotten = (weight > 0) & (retain.weight == 0)
        kept = jax.random.bernoulli(key_share, retained_share, weight.shape)
        both = request.data._replace(
            weight=jnp.where(is_forgotten | kept, weight, 0),
        )

        def loss_fn(key, variables, batches):
            del key  # Evaluation mode draws nothing.
            (batch,) = batches
            x, _, weight, _ = batch.examples
            teacher = jnp.where(
                is_forgotten[batch.row][:, None],
                classifier.apply(bad, x),
                classifier.apply(good, x),
            )
            distance = divergence(teacher, classifier.apply(variables, x))
            return losses.weighted_mean(distance, weight), variables

        return config.run(key_loop, loss_fn, variables, (both,))

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)
