"""MSG: draw anew the weights on which both halves agree, and train on."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array, Classifier, Unlearner, Variables
from hyperforget_jax.models.head import find_logits_layer
from hyperforget_jax.rivals.gradients import mean_gradient
from hyperforget_jax.rivals.restart import restarting
from hyperforget_jax.training.config import FitConfig

__all__ = ["msg"]

# Kaiming's, by how many outputs an input has.
_FRESH = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def msg(
    classifier: Classifier,
    *,
    fraction: Any = 0.3,
    rate: Any = 0.1,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 100,
    batch_size: int = 128,
) -> Unlearner:
    """Draw anew the kernels' weights of smallest gradient, then fine-tune.

    The gradient is that of mean cross-entropy on the retained examples less that on the
    forgotten. In each kernel the weights on which it is smallest, where the two agree,
    are drawn anew. Then cross-entropy on the retained examples is minimised, all other
    weights of those kernels slowed down.

    Second of the unlearning challenge of NeurIPS 2023. Published for convolutions: here
    it is every kernel but the head's, the same in a ResNet, and more than nothing in a
    perceptron. The retained gradient is that of all examples; published, of as many as
    are forgotten, drawn at random. Gradients and training in evaluation mode; published
    in training mode, where normalisation statistics move. What is slowed down are the
    steps: published, the gradients, which is the same for SGD but for weight decay.

    It reads both halves of the data when a request comes.

    Args:
        classifier: the model.
        fraction: of each kernel's weights that are drawn anew, in (0, 1].
        rate: by what steps of the kernels' other weights are multiplied, up to 1.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``. Published: SGD
            with momentum 0.9 and weight decay 5e-4, for 5 epochs of minibatches of 64,
            the rate rising to 1e-3 over the first 3 and falling after.
        steps: minibatches.
        batch_size: rows a minibatch.

    References:
        Cadet et al., Deep Unlearn: benchmarking machine unlearning for image
        classification, arXiv 2410.01276, 2024, which runs the winners anew.
        Triantafillou et al., Are we making progress in unlearning? Findings from the
        first NeurIPS unlearning competition, arXiv 2406.09073, 2024.
    """
    for name, value in (("fraction", fraction), ("rate", rate)):
        if checks.is_concrete(value) and not 0 < value <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {name}={value}.")
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def spoil(key, variables, request):
        retained, forgotten = (
            mean_gradient(classifier, variables, half, batch_size)
            for half in (request.retain, request.forget)
        )
        paths = _kernels(classifier, variables, request.retain.x)
        leaves = trees.by_path(variables["params"])
        gradient = trees.by_path(jax.tree.map(jnp.subtract, retained, forgotten))
        keys = jax.random.split(key, max(len(paths), 1))
        rates = {path: jnp.ones((), jnp.float32) for path in leaves}
        for key_leaf, path in zip(keys, paths, strict=False):
            leaf = leaves[path]
            is_drawn = _smallest(gradient[path], fraction)
            fresh = _FRESH(key_leaf, leaf.shape, jnp.float32).astype(leaf.dtype)
            leaves[path] = jnp.where(is_drawn, fresh, leaf)
            rates[path] = jnp.where(is_drawn, 1.0, rate)
        rebuild = jax.tree.structure(variables["params"]).unflatten
        return rebuild(leaves.values()), rebuild(rates.values())

    return restarting(classifier, spoil, {"retain", "forget"}, config)


def _smallest(gradient: Array, fraction: Any) -> Array:
    """Mark the entries of smallest magnitude, bool, like ``gradient``."""
    order = jnp.argsort(jnp.abs(gradient).reshape(-1))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    count = jnp.round(fraction * gradient.size)
    return (rank < count).reshape(gradient.shape)


def _kernels(classifier: Classifier, variables: Variables, x: Array) -> list[str]:
    """List the paths of all kernels but the head's."""
    head = find_logits_layer(classifier, variables, x)
    split = {path: path.rpartition("/") for path in trees.by_path(variables["params"])}
    return [
        path
        for path, (layer, _, name) in split.items()
        if name == "kernel" and layer != head
    ]
