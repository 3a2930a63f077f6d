"""JiT: make the model smooth around the forgotten, whatever their labels are."""

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
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.training.config import FitConfig

__all__ = ["jit_lipschitz", "lipschitz_ratio"]


def jit_lipschitz(
    classifier: Classifier,
    *,
    sigma: float = 0.1,
    draws: int = 10,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 20,
    batch_size: int = 128,
) -> Unlearner:
    """Minimise how far logits of the forgotten move when their inputs do.

    A step takes a minibatch, moves each input by noise, and lowers
    :func:`lipschitz_ratio`. No label is read, and no other data. As in ports of the
    published code no gradient flows through the moved inputs' logits; unlike in the
    code that they port from, gradients do not add up from step to step.

    It reads the inputs of the forget data. ``sigma`` and ``draws`` are published, for
    pixels in [0, 1]: give ``sigma`` in units of the classifier's inputs. Published is a
    rate of 1e-3 for one epoch and the sum over a minibatch, where this is the mean: of
    128 rows about 0.1. That ruins small networks and ones with normalisation, so the
    default is a smaller one, which forgets little where a larger one would do no harm.

    Args:
        classifier: the model.
        sigma: standard deviation of the noise in each feature of an input.
        draws: of the noise, for each row and step.
        optimizer: any optax optimiser; by default ``optax.adam(1e-4)``.
        steps: minibatches.
        batch_size: rows a minibatch.

    References:
        Foster et al., Zero-shot machine unlearning at scale via Lipschitz
        regularization, arXiv 2402.01401, 2024.
    """
    checks.check_positive(sigma=sigma)
    checks.check_sizes(draws=draws)
    optimizer = optax.adam(1e-4) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def loss_fn(key, variables, batches):
        keys = jax.random.split(key, draws)
        examples = batches[0].examples
        return lipschitz_ratio(classifier, variables, examples, keys, sigma), variables

    def forget_fn(key, variables, request):
        return config.run(key, loss_fn, variables, (request.forget,), (True,))

    access = Access(unlearn={"forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def lipschitz_ratio(
    classifier: Classifier,
    variables: Variables,
    batch: Examples,
    keys: Array,
    sigma: float | Array,
) -> Array:
    r"""Compute how far logits move for each unit that inputs do, on the average.

    .. math:: K = \frac{1}{n B} \sum_{k, i}
              \frac{\lVert z(x_i) - z(x_i + \epsilon_{ki}) \rVert}
              {\lVert \epsilon_{ki} \rVert}

    Noise is normal. Moved inputs are clipped to the minibatch's range, and what is left
    of the noise divides. Their logits are constants to the gradient.

    Args:
        classifier: the model, in evaluation mode.
        variables: its variables.
        batch: a minibatch, ``[B]``, whose rows all weigh alike.
        keys: typed keys, ``[n]``, consumed: one a draw.
        sigma: standard deviation of the noise.
    """
    logits = classifier.apply(variables, batch.x)
    fixed = lax.stop_gradient(variables)
    low, high = jnp.min(batch.x), jnp.max(batch.x)

    def draw(key: Array) -> tuple[Array, Array]:
        noise = sigma * jax.random.normal(key, batch.x.shape)
        moved = jnp.clip(batch.x + noise.astype(batch.x.dtype), low, high)
        return classifier.apply(fixed, moved), _norm(moved - batch.x)

    # One after the other: only the logits of the draws are in memory together.
    moved, length = lax.map(draw, keys)
    change = jax.vmap(_norm)(logits[None] - moved)
    ratio = jnp.mean(change / jnp.where(length > 0, length, 1), axis=0)
    return losses.weighted_mean(ratio, batch.weight)


def _norm(rows: Array) -> Array:
    """Euclidean norm of every row, ``[B]``, with the gradient zero where it is zero."""
    squares = jnp.square(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)))
    total = jnp.sum(squares.reshape(rows.shape[0], -1), axis=1)
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)
