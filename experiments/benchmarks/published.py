"""The published algorithm of projected-gradient unlearning, phase by phase.

As a baseline does it in another library: on the same weights, data and minibatches.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timing

import hyperforget_jax as hf
from hyperforget_jax.methods.pgu_losses import published_loss

# Projected steps.
STEPS = 100


def phases(
    classifier: hf.Classifier,
    how: Any,
    variables: Any,
    data: hf.Examples,
    forget: hf.Examples,
    batches: np.ndarray,
    rates: np.ndarray,
) -> Callable[[float], dict[str, Any]]:
    """What the baseline does in its four phases, as a function of the share to protect.

    Projectors are made from bases in the last phase; the baseline's third makes them.
    """

    @jax.jit
    def gram(variables, data):
        return hf.subspace.measure(
            classifier, variables, data, batch_size=how.batch_size
        )

    @jax.jit
    def forget_gram(grams, variables, forget):
        left = hf.subspace.subtract(grams, gram(variables, forget))
        return hf.subspace.without_bias(left, variables["params"])

    @jax.jit
    def decompose(grams, threshold):
        spectrum = hf.subspace.decompose(grams)
        kept = hf.subspace.keep(spectrum, how.rank, threshold)
        return hf.subspace.null_space(spectrum, kept), jax.tree.map(jnp.sum, kept)

    @jax.jit
    def steps(projector, variables, forget, batches, rates):
        projection = hf.subspace.project_gradients(projector)

        def loss(params, x, y):
            logits = classifier.apply({**variables, "params": params}, x)
            return jnp.mean(published_loss(logits, y, how.offset, how.entropy))

        def step(params, given):
            rows, rate = given
            gradients = jax.grad(loss)(params, forget.x[rows], forget.y[rows])
            updates, _ = projection.update(gradients, projection.init(params))
            return jax.tree.map(lambda p, u: p - rate * u, params, updates), None

        return jax.lax.scan(step, variables["params"], (batches, rates))[0]

    taken = jnp.asarray(batches), jnp.asarray(rates, jnp.float32)

    def run(threshold):
        seconds = {}

        def phase(name, function, *arguments):
            seconds[name], result = timing.timed(lambda: function(*arguments))
            return result

        grams = phase("gram", gram, variables, data)
        left = phase("forget_gram", forget_gram, grams, variables, forget)
        projector, ranks = phase("decompose", decompose, left, jnp.float32(threshold))
        params = phase("steps", steps, projector, variables, forget, *taken)
        return {
            "seconds": seconds,
            "kernels": [np.asarray(params[path]["kernel"]) for path in layers(params)],
            "ranks": [int(ranks[path]) for path in layers(params)],
        }

    return run


def layers(params: Any) -> list[str]:
    """The layers in the order that they are called in: convolutions, then the rest."""
    return sorted(params)


def batches(seed: int, count: int, batch_size: int) -> np.ndarray:
    """Rows that each step sees, ``[steps, batch_size]``: a permutation an epoch."""
    generator, wanted = np.random.default_rng(seed), STEPS * batch_size
    epochs = [generator.permutation(count) for _ in range(-(-wanted // count))]
    return np.concatenate(epochs)[:wanted].reshape(STEPS, batch_size)


def apart(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], before: list[np.ndarray]
) -> float:
    """How far kernels end apart, as a share of how far the second one's moved."""

    def length(first, second):
        pairs = zip(first, second, strict=True)
        return np.sqrt(sum(np.sum(np.square(a - b)) for a, b in pairs))

    kernels = ours["kernels"], theirs["kernels"]
    return float(length(*kernels) / length(kernels[1], before))
