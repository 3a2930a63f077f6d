"""Training a part of the parameters, while the others do not move by a bit."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = ["only"]


def only(mask: Any, optimizer: optax.GradientTransformation):
    """Make an optimiser move the parameters that ``mask`` marks, and no others.

    The optimiser is shown gradients that are zero elsewhere, so that momentum gathers
    nothing there, and of its updates, weight decay too, the marked ones alone are
    taken.

    Args:
        mask: like the parameters, or with leaves that broadcast to them, bool.
        optimizer: any optax optimiser.
    """

    def masked(updates, params):
        del params
        return jax.tree.map(
            lambda leaf, moves: jnp.where(moves, leaf, jnp.zeros_like(leaf)),
            updates,
            mask,
        )

    either = optax.stateless(masked)
    return optax.chain(either, optimizer, either)
