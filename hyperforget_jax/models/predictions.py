"""Logits of many inputs in bounded memory, for one model or a population of them."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import checks, chunking
from hyperforget_jax.base import Array, Classifier, Variables

__all__ = ["logits", "population_logits"]


@functools.partial(jax.jit, static_argnames=("classifier", "batch_size"))
def logits(
    classifier: Classifier, variables: Variables, x: Array, *, batch_size: int = 512
) -> Array:
    """Compute a classifier's logits, in evaluation mode, a batch at a time.

    Compiled once for classifiers that are equal, and once for a shape of ``x``.

    Args:
        classifier: the model.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        batch_size: the most inputs whose activations are held at once.

    Returns:
        Logits, ``[N, C]``, at least float32.
    """
    checks.check_sizes(batch_size=batch_size)
    num_rows = x.shape[0]
    num_batches = max(1, -(-num_rows // batch_size))
    if num_batches == 1:
        outputs = classifier.apply(variables, x)
    else:
        # Equal batches, so that less than one row a batch is padding.
        rows = -(-num_rows // num_batches)
        padding = num_batches * rows - num_rows
        padded = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
        batches = padded.reshape(num_batches, rows, *x.shape[1:])
        outputs = lax.map(lambda batch: classifier.apply(variables, batch), batches)
        outputs = outputs.reshape(num_batches * rows, -1)[:num_rows]
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


@functools.partial(jax.jit, static_argnames=("classifier", "batch_size"))
def population_logits(
    classifier: Classifier,
    variables: Variables,
    x: Array,
    *,
    batch_size: int = 512,
) -> Array:
    """Compute the logits of every member of a population, for the same inputs.

    As many members at once as a memory budget allows: on CPUs convolutions of many are
    slower together.

    Args:
        classifier: the model.
        variables: stacked variables, every leaf ``[P, ...]``.
        x: inputs, ``[N, ...]``.
        batch_size: the most inputs held at once, for each member at work.

    Returns:
        Logits, ``[P, N, C]``, at least float32.
    """
    members = jax.tree.leaves(variables)[0].shape[0]
    one = chunking.shapes_of_one(variables)
    at_once = chunking.chunk_size(members, classifier.apply, one, x[:batch_size])
    return lax.map(
        lambda member: logits(classifier, member, x, batch_size=batch_size),
        variables,
        batch_size=at_once,
    )
