"""Prompts: the loss wanted on every class.

Not every combination of losses is attainable: no model has the best of every class at
once. So a prompt is by default an attainable profile, the mean losses of those
checkpoints of the zoo that forgot the same classes.
"""

from typing import NamedTuple

import jax.numpy as jnp

from hyperforget_jax.base import Array

__all__ = ["Profiles", "both_scales", "features", "profile"]


class Profiles(NamedTuple):
    """What the models of a zoo are like.

    Attributes:
        masks: which classes they forgot, bool, ``[M, C]``, without repetition. Every
            single class is among them.
        loss: their mean loss on every class of the probe, ``[M, C]``.
        largest: of each class, the 95th percentile of its loss over the checkpoints of
            the runs that forget it alone, ``[C]``.
        norms: the smallest and the largest Euclidean norm of all parameters of a start,
            ``[2]``; zero in the generate mode, which has none.
    """

    masks: Array
    loss: Array
    largest: Array
    norms: Array


def features(kind: str, loss: Array, classes: Array) -> Array:
    """Encode a prompt for the denoiser, float32.

    Args:
        kind: ``"dihyfo_2"``, every class's loss, ``[2 C]``; or ``"dihyfo_1"``, the loss
            of what is forgotten and of the rest, with the classes, ``[4 + C]``.
        loss: the mean loss wanted on every class, nats, ``[C]``.
        classes: the classes to forget, bool, ``[C]``.
    """
    if kind == "dihyfo_2":
        return both_scales(loss)
    forgotten = jnp.sum(jnp.where(classes, loss, 0)) / jnp.maximum(classes.sum(), 1)
    kept = jnp.sum(jnp.where(classes, 0, loss)) / jnp.maximum((~classes).sum(), 1)
    two = jnp.stack([forgotten, kept])
    return jnp.concatenate([both_scales(two), classes.astype(jnp.float32)])


def profile(profiles: Profiles, classes: Array) -> Array:
    """Compute the losses that a model without these classes can have, ``[C]``.

    Those of the zoo's models that forgot just these classes, bool, ``[C]``. For a set
    that the zoo does not have: of each forgotten class the loss after it alone was
    forgotten, of each retained class the mean over these.
    """
    same = jnp.all(profiles.masks == classes[None], axis=1)
    known = jnp.sum(jnp.where(same[:, None], profiles.loss, 0), axis=0)
    alone = profiles.masks & (jnp.sum(profiles.masks, axis=1, keepdims=True) == 1)
    # [C, C]: the losses of the models that forgot class c and nothing else.
    single = alone.astype(jnp.float32).T @ profiles.loss
    count = jnp.maximum(jnp.sum(classes), 1)
    kept = jnp.sum(jnp.where(classes[:, None], single, 0), axis=0) / count
    composed = jnp.where(classes, jnp.diagonal(single), kept)
    return jnp.where(jnp.any(same), known, composed)


def both_scales(loss: Array) -> Array:
    """Compute logarithm and value: one resolves small losses, the other large ones.

    Both are of the order of one for losses from 0.02 to 10; float32, ``[2 K]``.
    """
    return jnp.concatenate([jnp.log(loss + 0.02) / 2, loss / 4]).astype(jnp.float32)
