"""Inputs that a model takes for a forgotten class, and whether others agree."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.chunking import map_members
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models.classifier import unmasked

__all__ = ["invert", "recognised"]

# Of the range of the inputs.
_NOISE, _STEP = 0.1, 0.02

# Nats for one input value that is a range away from the mean. Of less, models are
# satisfied by patterns that are like nothing; of more, they do not reach the class.
_PENALTY = 0.3


@functools.partial(jax.jit, static_argnames=("classifier", "steps"))
def invert(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    retain: Examples,
    labels: Array,
    *,
    steps: int = 200,
) -> Array:
    """Search for inputs that models take for given classes.

    Gradient steps on the inputs (Adam) lower the cross-entropy of the label and the
    squared distance from the mean retained example, from that mean and some noise on.
    Every value stays in the range of the retained examples' values. A mask over the
    outputs is dropped first.

    Source: Fredrikson, Jha and Ristenpart, Model inversion attacks that exploit
    confidence information and basic countermeasures, CCS 2015; of unlearned models in
    Graves et al., Amnesiac machine learning, arXiv 2010.10981, 2020.

    Args:
        key: a typed key, consumed: all models start from the same inputs.
        classifier: the model.
        variables: stacked variables, every leaf ``[P, ...]``.
        retain: floating-point examples that give range and mean, ``[N, ...]``.
        labels: the class of each input, int32, ``[S]``.
        steps: of the optimiser.

    Returns:
        Inputs, ``[P, S, ...]``.

    Raises:
        TypeError: inputs that are not floating-point, which have no gradient.
    """
    if not jnp.issubdtype(retain.x.dtype, jnp.floating):
        raise TypeError(
            f"retain.x must be floating-point to be searched by gradients, got "
            f"{retain.x.dtype}."
        )
    there = (retain.weight > 0).reshape(-1, *[1] * (retain.x.ndim - 1))
    low = jnp.min(jnp.where(there, retain.x, jnp.inf))
    high = jnp.max(jnp.where(there, retain.x, -jnp.inf))
    centre = jnp.mean(retain.x, axis=0, where=there)[None]
    noise = jax.random.normal(
        as_threefry(key), (labels.size, *centre.shape[1:]), centre.dtype
    )
    start = jnp.clip(centre + _NOISE * (high - low) * noise, low, high)
    optimizer = optax.adam(_STEP * (high - low))

    def search(own, labels, start, centre, low, high):
        own = unmasked(own)

        def loss(x):
            fit = losses.cross_entropy(classifier.apply(own, x), labels)
            far = jnp.sum(((x - centre) / (high - low)) ** 2)
            return jnp.sum(fit) + _PENALTY * far

        def step(_, carry):
            x, opt_state = carry
            updates, opt_state = optimizer.update(jax.grad(loss)(x), opt_state)
            return jnp.clip(x + updates, low, high), opt_state

        return lax.fori_loop(0, steps, step, (start, optimizer.init(start)))[0]

    return map_members(search, variables, labels, start, centre, low, high)


@functools.partial(jax.jit, static_argnames=("classifier",))
def recognised(
    classifier: Classifier, judges: Variables, x: Array, labels: Array
) -> Array:
    """Compute the share of inversions that an independent model answers by their label.

    Args:
        classifier: the model.
        judges: stacked variables of models that know the classes, one for each of the
            inverted models and never that model itself or what it was unlearned from,
            every leaf ``[P, ...]``.
        x: what :func:`invert` gave, ``[P, S, ...]``.
        labels: the class that each was searched for, ``[S]``.

    Returns:
        Fractions, float32, ``[P]``.
    """

    def judge(pair, labels):
        own, images = pair
        return jnp.mean(jnp.argmax(classifier.apply(own, images), -1) == labels)

    return map_members(judge, (judges, x), labels)
