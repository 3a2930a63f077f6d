"""Boundary shrink: relabel the forgotten by the class across the nearest boundary."""

import functools

import jax
import jax.numpy as jnp
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
from hyperforget_jax.methods.defaults import warn_of_driven_out
from hyperforget_jax.methods.stateless import loss_on, stateless
from hyperforget_jax.microbatch import batch_rows
from hyperforget_jax.training.config import FitConfig

__all__ = ["boundary_shrink", "nearest_labels"]

_STEPS, _BATCH_SIZE = 20, 128


def boundary_shrink(
    classifier: Classifier,
    *,
    bound: float = 0.1,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = _STEPS,
    batch_size: int = _BATCH_SIZE,
) -> Unlearner:
    """Train the forgotten towards the class that one adversarial step leads to.

    Each forgotten example gets one label, by the model as it was: the largest logit
    after a step ``x + bound * sign(gradient)`` that raises its loss, among the classes
    that are not to be forgotten, and are not its own. Published code takes the largest
    of all, its own class too, which teaches what is to be forgotten wherever the step
    fails; and clips to [0, 1], which is wrong for inputs that are normalised. Here
    nothing is clipped. Class requests are what it was made for: single rows
    of all classes lead to every class but the right one, as a warning says.

    It reads the forget data and which classes go. The bound is the published one, of
    pixels in [0, 1]: give it in units of the classifier's inputs. The optimiser, steps
    and batch size are those of ``hf.ascent``; published are ten epochs of SGD at a rate
    of 1e-5, in training mode.

    Args:
        classifier: the model.
        bound: length of the adversarial step in each feature of an input.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches.
        batch_size: rows a minibatch.

    References:
        Chen et al., Boundary unlearning: rapid forgetting of deep networks via shifting
        the decision boundary, CVPR 2023, arXiv 2303.11570.
    """
    checks.check_positive(bound=bound)
    is_default = optimizer is None and (steps, batch_size) == (_STEPS, _BATCH_SIZE)
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        forget = request.forget
        if is_default:
            warn_of_driven_out(
                "hf.rivals.boundary_shrink",
                request.classes,
                forget,
                request.data.weight,
                "Take fewer steps, or a method that reads what stays too",
            )
        labels = nearest_labels(
            classifier, variables, forget, bound, request.classes, batch_size=batch_size
        )
        loss = functools.partial(loss_on, classifier)
        sources = (forget._replace(y=labels),)
        return config.minimise(key, loss, variables, sources, (True,))

    access = Access(unlearn={"forget", "classes"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def nearest_labels(
    classifier: Classifier,
    variables: Variables,
    examples: Examples,
    bound: float | Array,
    classes: Array,
    *,
    batch_size: int,
) -> Array:
    """Find the class that one step by the signs of the gradient leads to.

    In evaluation mode, ``batch_size`` rows at once.

    Args:
        bound: length of the step in each feature.
        classes: what no label may be, bool, ``[C]``; nor may it be an example's own.

    Returns:
        Labels, int32, ``[N]``; those of examples that weigh nothing mean nothing.
    """

    def of_batch(rows: Array) -> Array:
        batch = examples.take(rows)

        def loss(x):
            # Rows have gradients of their own, so that a sum gives them all at once.
            logits = classifier.apply(variables, x)
            return jnp.sum(losses.cross_entropy(logits, batch.y))

        step = (bound * jnp.sign(jax.grad(loss)(batch.x))).astype(batch.x.dtype)
        logits = classifier.apply(variables, batch.x + step)
        own = jnp.arange(classes.size)[None, :] == batch.y[:, None]
        return jnp.argmax(jnp.where(own | classes[None, :], -jnp.inf, logits), axis=-1)

    found = lax.map(of_batch, batch_rows(examples.y.size, batch_size))
    return found.reshape(-1)[: examples.y.size].astype(examples.y.dtype)
