"""l1-sparse: train on, without the forgotten, under a penalty that makes sparse."""

import functools

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.methods.stateless import loss_on, optimising
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["l1_sparse"]


def l1_sparse(
    classifier: Classifier,
    *,
    penalty: float = 1e-3,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 128,
) -> Unlearner:
    """Minimise cross-entropy on the retained examples plus the parameters' l1 norm.

    The penalty's weight falls from ``penalty`` to zero in a straight line, step by
    step, where published code does so by epochs. As there it is taken of all
    parameters, biases and normalisation scales included, and by its gradient:
    parameters become small, and none becomes zero for good. Optimisers that look at the
    loss see the cross-entropy alone, which is also what ``info.loss`` shows.
    Normalisation statistics stay.

    It reads the retained data when a request comes. The defaults are not tuned.
    Descent is plain, since Adam, which divides by the size of gradients, would follow
    the penalty however small it is wherever the data are fitted.

    Args:
        classifier: the model.
        penalty: weight of the l1 norm at the first step.
        optimizer: any optax optimiser; ``optax.sgd(0.05, momentum=0.9)`` by default.
        steps: minibatches.
        batch_size: rows a minibatch.

    Raises:
        TypeError, ValueError: ``penalty`` is no number, negative or infinite.

    References:
        Jia et al., Model sparsity can simplify machine unlearning,
        arXiv 2304.04934, 2023.
    """
    checks.check_factor(penalty=penalty)
    checks.check_sizes(steps=steps)
    optimizer = optax.sgd(0.05, momentum=0.9) if optimizer is None else optimizer
    check_optimizer(optimizer)
    return optimising(
        classifier,
        functools.partial(loss_on, classifier),
        ("retain",),
        optax.chain(_add_penalty(penalty, steps), optimizer),
        steps=steps,
        batch_size=batch_size,
    )


def _add_penalty(penalty: float, steps: int) -> optax.GradientTransformation:
    """Add the gradient of the penalty to gradients."""

    def init(params):
        del params  # Its state is the number of the step.
        return jnp.zeros((), jnp.int32)

    def update(updates, state, params=None):
        rate = penalty * (1 - state / steps)
        added = jax.tree.map(
            lambda leaf, at: leaf + (rate * jnp.sign(at)).astype(leaf.dtype),
            updates,
            params,
        )
        return added, state + 1

    return optax.GradientTransformation(init, update)
