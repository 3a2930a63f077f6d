"""K-FADE: a few Newton steps uphill, with curvature kept as Kronecker factors."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks, subspace, trees
from hyperforget_jax.base import Array, Classifier, Examples, Unlearner, Variables
from hyperforget_jax.microbatch import sum_over
from hyperforget_jax.models.taps import tap_shapes
from hyperforget_jax.rivals.gradients import sum_of_gradients
from hyperforget_jax.rivals.stored import stored
from hyperforget_jax.subspace import Grams
from hyperforget_jax.subspace.grams import map_layers

__all__ = ["Factors", "curvature", "kfade"]

_EXACT = lax.Precision.HIGHEST


def kfade(
    classifier: Classifier,
    *,
    step_size: Any = 1.0,
    damping: Any = 1.0,
    steps: int = 1,
    batch_size: int = 256,
) -> Unlearner:
    r"""Step uphill on the forget data, by the inverse curvature of the retained ones.

    .. math:: \theta \leftarrow \theta + \eta \, (H_r + \lambda I)^{-1} \sum_{i \in
              D_f} \nabla \mathrm{CE}_i

    where the Gauss-Newton matrix ``H_r``, summed over the retained examples, is block
    diagonal, a Kronecker product of two sums a layer (K-FAC). ``init`` sums both over
    all training data; a request subtracts its own. One step of size one is the Newton
    step to the optimum of the retained data from that of all: WIN-U's, with Kronecker
    factors where that has the whole matrix and Woodbury's identity.

    Of K-FADE only the abstract was at hand, where the curvature is of a retain set read
    at the request: that it needs none then is WIN-U's idea. Gradients with respect to
    outputs are summed over all labels exactly, and not over one that is drawn. Layers
    without taps, normalisation parameters and statistics do not move.

    ``init`` reads the training data once, a request the forget data alone. The loss has
    no bound, and several steps can run away: look at ``info.change``, and raise
    ``damping`` where a step goes far.

    Args:
        classifier: the model, with taps.
        step_size: eta; one is a whole Newton step.
        damping: lambda, in units of each layer's mean curvature. Not tuned.
        steps: gradients taken; the curvature stays that of the start.
        batch_size: rows at once.

    References:
        McKinney et al., Gauss-Newton unlearning for the LLM era, arXiv 2602.10568,
        2026. Zhao et al., WIN-U: Woodbury-informed Newton-unlearning, arXiv 2604.13438,
        2026. Martens and Grosse, Optimizing neural networks with Kronecker-factored
        approximate curvature, arXiv 1503.05671, 2015. Grosse and Martens, A
        Kronecker-factored approximate Fisher matrix for convolution layers,
        arXiv 1602.01407, 2016.
    """
    checks.check_positive(step_size=step_size, damping=damping)
    checks.check_sizes(steps=steps, batch_size=batch_size)

    def measure(variables, data):
        return curvature(classifier, variables, data, batch_size)

    def answer(variables, left, gone, forget):
        inputs, outputs = map(subspace.decompose, (left.inputs, left.outputs))

        def solve(path: str, gradient: Array) -> Array:
            given, out = inputs.basis[path], outputs.basis[path]
            count = left.places[path]
            size = inputs.values[path][..., None] * outputs.values[path][..., None, :]
            size /= jnp.where(count > 0, count, 1)
            ridge = damping * jnp.mean(size, axis=(-2, -1), keepdims=True)
            rotated = _times(_times(jnp.swapaxes(given, -1, -2), gradient), out)
            total = size + ridge
            # Without any curvature there is no step.
            solved = jnp.where(total > 0, rotated / jnp.where(total > 0, total, 1), 0)
            return _times(_times(given, solved), jnp.swapaxes(out, -1, -2))

        def step(params, _):
            now = {**variables, "params": params}
            gradient = sum_of_gradients(classifier, now, forget, batch_size)
            moved = map_layers(gradient, left.inputs.values, solve)
            moved = optax.tree.scale(step_size, moved)
            return optax.apply_updates(params, moved), None

        return lax.scan(step, variables["params"], None, length=steps)[0]

    return stored(
        classifier,
        measure,
        answer,
        "hf.rivals.kfade",
        remains="the Kronecker factors",
        batch_size=batch_size,
    )


_times = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class Factors(NamedTuple):
    """Sums whose Kronecker products are curvatures of layers, up to a count.

    Attributes:
        inputs: Gram matrices of what each layer was given.
        outputs: of the gradients with respect to what it gave, labels drawn from the
            model's own predictions, float32, ``[G, O / G, O / G]``.
        places: by layer, of how many outputs an example has, float32, ``[]``, summed.
    """

    inputs: Grams
    outputs: Grams
    places: dict[str, Array]


def curvature(
    classifier: Classifier, variables: Variables, data: Examples, batch_size: int
) -> Factors:
    """Sum the Kronecker factors of every tapped layer, in evaluation mode."""
    inputs = subspace.measure(classifier, variables, data, batch_size=batch_size)
    tapped: Any = classifier.tapped
    if tapped is None:
        raise ValueError(
            "hf.rivals.kfade needs gradients with respect to what layers give, and the "
            f"classifier ({classifier.description}) is not tapped: build it with "
            "hf.from_linen, hf.from_nnx or hf.from_functions."
        )
    calls = tap_shapes(classifier, variables, data.x)
    shapes = {p: [tap.output_shape for tap in taps] for p, taps in calls.items()}
    groups = {path: gram.shape[0] for path, gram in inputs.values.items()}
    widths = {
        path: _width(trees.get(variables["params"], path), inputs.values[path])
        for path in shapes
    }

    def of_row(x: Array) -> dict[str, Array]:
        shifts = {
            path: tuple(jnp.zeros(shape, jnp.float32) for shape in calls)
            for path, calls in shapes.items()
        }
        logits, pull = jax.vjp(lambda s: tapped(variables, x[None], s)[0], shifts)
        p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[0]
        # Sums over labels of sqrt(p_y) (e_y - p), squared, give diag(p) - p p^T.
        seeds = jnp.sqrt(p)[:, None] * (jnp.eye(p.size) - p[None, :])

        def of_label(seed: Array) -> dict[str, Array]:
            (outputs,) = pull(seed[None].astype(logits.dtype))
            return {path: gram(path, calls) for path, calls in outputs.items()}

        summed = lax.map(of_label, seeds)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), summed)

    def gram(path: str, calls: tuple[Array, ...]) -> Array:
        rows = jnp.concatenate([g.reshape(-1, widths[path]) for g in calls])
        rows = rows.reshape(rows.shape[0], groups[path], -1)
        return jnp.einsum("pgi,pgj->gij", rows, rows, precision=_EXACT)

    def of_batch(batch: Examples) -> dict[str, Array]:
        weight = batch.weight.astype(jnp.float32)
        return jax.tree.map(
            lambda leaf: jnp.tensordot(weight, leaf, 1, precision=_EXACT),
            jax.vmap(of_row)(batch.x),
        )

    summed = sum_over(of_batch, data, batch_size)
    places = {
        path: inputs.total_weight
        * sum(math.prod(shape) // widths[path] for shape in calls)
        for path, calls in shapes.items()
    }
    return Factors(inputs, Grams(summed, inputs.total_weight), places)


def _width(layer: Any, gram: Array) -> int:
    """How many numbers a layer gives at one place, all groups together."""
    has_bias = "bias" in layer
    return layer["kernel"].size // (gram.shape[-1] - has_bias)
