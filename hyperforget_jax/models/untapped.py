"""Which kernels no tap covers, so that methods which move tapped layers can tell."""

import warnings
from typing import Any

import jax

from hyperforget_jax import trees
from hyperforget_jax.base import Array, Classifier, Variables

__all__ = ["untapped_layers", "warn_of_untapped"]

# What Flax calls parameters that no input is multiplied with as by a matrix.
_NO_KERNELS = ("bias", "embedding", "scale")


def untapped_layers(
    classifier: Classifier, variables: Variables, x: Array
) -> list[str]:
    """List the kernels of layers that no tap covers.

    A method that moves layers through their taps (``hf.pgu``) leaves them as they are:
    layers within loops (``nn.scan``, ``nnx.scan``), layers that are stacked and mapped
    over (``nn.vmap``), subclasses and layers with a product of their own, kernels that
    are used elsewhere too (tied weights), and what a plain function does not name.

    Args:
        classifier: the model.
        variables: its variables.
        x: inputs, ``[N, ...]``; only shape and dtype are used.

    Returns:
        Paths of parameters, such as ``"blocks/kernel"``, in order. Kernels are
        parameters that are called so, and others of two or more axes; embedding tables
        and parameters that are shared by all rows (``[1, ...]``) are none.
    """
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    plain, tapped = classifier.taps, classifier.tapped
    known: Any = {}
    if tapped is not None:
        known = jax.eval_shape(lambda v, x: tapped(v, x, {})[1], variables, row)
    elif plain is not None:
        known = jax.eval_shape(plain, variables, row)
    found = []
    for name, leaf in trees.by_path(variables["params"]).items():
        path, _, last = name.rpartition("/")
        if path not in known and _is_kernel(last, leaf.shape):
            found.append(name)
    return found


def warn_of_untapped(
    classifier: Classifier, variables: Variables, x: Array, method: str
) -> None:
    """Warn of the kernels that a method will not move, by their paths.

    Args:
        classifier: the model.
        variables: its variables.
        x: inputs, ``[N, ...]``.
        method: its name, for the message.
    """
    left = untapped_layers(classifier, variables, x)
    if left:
        name = classifier.description or "the classifier"
        warnings.warn(
            f"{method} will not move {', '.join(left)}: no tap covers these kernels of "
            f"{name} (layers within scan or vmap, subclasses of Flax's layers, tied "
            "weights, and what a function does not compute with hf.models.dense).",
            UserWarning,
            stacklevel=3,
        )


def _is_kernel(name: str, shape: tuple[int, ...]) -> bool:
    if name == "kernel":
        return True
    return len(shape) >= 2 and shape[0] > 1 and name not in _NO_KERNELS
