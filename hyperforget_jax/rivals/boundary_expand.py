"""Boundary expand: move the forgotten into a class that is dropped afterwards."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import losses, trees
from hyperforget_jax.base import Access, Array, Classifier, Unlearner, Variables
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.models.head import find_logits_layer
from hyperforget_jax.training.config import FitConfig

__all__ = ["boundary_expand"]


def boundary_expand(
    classifier: Classifier,
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 20,
    batch_size: int = 128,
) -> Unlearner:
    """Train the forgotten towards an output of their own, and drop that output.

    The last layer gets one more output, drawn as Flax draws kernels, for as long as a
    request is answered: what is given back has the shapes that came in. (A published
    port keeps the output in the model; the authors' code has one width of features
    written into it.) Class requests are what it was made for.

    It reads the forget data alone. The optimiser, steps and batch size are those of
    ``hf.ascent``; published are ten epochs of SGD, in training mode.

    Args:
        classifier: the model, whose last layer is dense and known by its taps.
        optimizer: any optax optimiser; by default ``optax.adam(1e-3)``.
        steps: minibatches.
        batch_size: rows a minibatch.

    Raises:
        ValueError: when a request comes, if no dense layer gives the logits.

    References:
        Chen et al., Boundary unlearning: rapid forgetting of deep networks via shifting
        the decision boundary, CVPR 2023, arXiv 2303.11570.
    """
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    config = FitConfig(optimizer, steps, batch_size)

    def forget_fn(key, variables, request):
        key_output, key_loop = jax.random.split(key)
        forget, params = request.forget, variables["params"]
        head = _head(classifier, variables, forget.x)
        tapped: Any = classifier.tapped  # Not None, or there were no head.
        kernel = trees.get(params, head)["kernel"]
        output = {
            "kernel": new_output(key_output, kernel),
            "bias": jnp.zeros((), kernel.dtype),
        }

        def loss(variables, batch):
            trained = variables["params"]
            laid = {**variables, "params": trained["model"]}
            logits, taps = tapped(laid, batch.x, {})
            features = taps[head][0].input
            added = features @ trained["output"]["kernel"] + trained["output"]["bias"]
            values = losses.cross_entropy(
                jnp.concatenate([logits, added[:, None]], axis=1),
                jnp.full_like(batch.y, logits.shape[1]),
            )
            return losses.weighted_mean(values, batch.weight)

        start = {**variables, "params": {"model": params, "output": output}}
        trained, info = config.minimise(key_loop, loss, start, (forget,), (True,))
        return {**trained, "params": trained["params"]["model"]}, info

    access = Access(unlearn={"forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def new_output(key: Array, kernel: Array) -> Array:
    """Draw the weights of one more output of a dense layer, LeCun normal.

    Of a kernel ``[..., C]`` with D inputs: ``[D]``, of its dtype.
    """
    inputs = kernel.size // kernel.shape[-1]
    draw = jax.nn.initializers.lecun_normal()
    return draw(key, (inputs, 1), jnp.float32)[:, 0].astype(kernel.dtype)


def _head(classifier: Classifier, variables: Variables, x: Array) -> str:
    """The path of the layer that gives the logits."""
    head = find_logits_layer(classifier, variables, x)
    if head is None:
        name = classifier.description or "no description"
        raise ValueError(
            "hf.rivals.boundary_expand adds an output to the dense layer that gives "
            f"the logits, and none is known of the classifier ({name}): make it with "
            "hf.from_linen or hf.from_nnx and end it with a Dense layer, or use "
            "hf.rivals.boundary_shrink."
        )
    return head
