"""How far a student's predictions are from a teacher's."""

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax.base import Array

__all__ = ["divergence"]


def divergence(teacher: Array, student: Array, temperature: float | Array = 1) -> Array:
    """Compute ``T^2 * KL(teacher || student)`` at temperature T, in nats, ``[N]``.

    Args:
        teacher: logits, floats, ``[N, C]``.
        student: likewise.
        temperature: T, by which logits are divided.
    """
    target, own = (
        jax.nn.log_softmax(
            logits.astype(jnp.promote_types(logits.dtype, jnp.float32)) / temperature
        )
        for logits in (teacher, student)
    )
    distance = optax.losses.kl_divergence_with_log_targets(own, target)
    return temperature**2 * distance
