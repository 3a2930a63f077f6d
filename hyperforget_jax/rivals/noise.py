"""Noise that a model takes for anything but given classes."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables

__all__ = ["error_maximising_noise"]

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
