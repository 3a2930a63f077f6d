"""Plain sequential models, whose hidden units may stand in any order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import OUTPUT_MASK, Array, Classifier, Variables
from hyperforget_jax.hypernet.chunk_tokens import TreeSpec

__all__ = ["Layer", "NotSequential", "check_symmetry", "sequential_layers"]

# Of parameters, until some let the inputs through: where a layer's units are all dead,
# nothing before it could be seen to matter.
_MOST_DRAWS = 20


class NotSequential(ValueError):
    """Why a classifier has no unit tokens."""

    def __init__(self, reason: str):
        super().__init__(
            f"classifier has no unit tokens: {reason}. They are for plain sequences of "
            "dense and convolutional layers; chunk_tokens takes any parameters."
        )


class Layer(NamedTuple):
    """A layer as a matrix ``[rows, features]``, by the numbers of its leaves."""

    name: str
    kernel: int
    bias: int | None
    rows: int
    features: int


def sequential_layers(
    classifier: Classifier, variables: Variables, spec: TreeSpec, x: Any
) -> tuple[tuple[Layer, ...], float]:
    """Find the layers in the order of their calls, and how finely the model computes.

    Raises:
        NotSequential: with the reason.
    """
    taps = classifier.taps
    if taps is None:
        raise NotSequential("it has no taps")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise NotSequential(f"x must be floating point, got dtype {x.dtype}")
    x = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    try:
        calls = jax.eval_shape(taps, variables, x)
    except (ValueError, jax.errors.JAXTypeError) as error:
        raise NotSequential(f"its layers cannot be tapped ({error})") from error
    for name in spec.names:
        path, _, kind = name.rpartition("/")
        if path not in calls or kind not in ("kernel", "bias"):
            raise NotSequential(
                f"its parameter {name!r} is no kernel or bias of a tapped layer"
            )
    others = sorted(set(variables) - {"params", OUTPUT_MASK})
    if others:
        raise NotSequential(f"its variables hold {others} beside 'params'")
    if not calls:
        raise NotSequential("it has no tapped layer")
    order = sorted(calls, key=lambda path: calls[path][0].call)
    layers, number_of = [], {name: i for i, name in enumerate(spec.names)}
    for path in order:
        tap = calls[path][0]
        if len(calls[path]) != 1:
            raise NotSequential(f"layer {path!r} is called {len(calls[path])} times")
        if tap.groups != 1:
            raise NotSequential(f"layer {path!r} has {tap.groups} feature groups")
        prefix = f"{path}/" if path else ""
        if f"{prefix}kernel" not in number_of:
            raise NotSequential(f"layer {path!r} has no kernel among the parameters")
        kernel, bias = number_of[f"{prefix}kernel"], number_of.get(f"{prefix}bias")
        shape = spec.shapes[kernel]
        # A dense layer's tap has all the axes it contracts as one.
        rows = tap.input.shape[-1] if tap.kind == "dense" else np.prod(shape[:-1])
        features = int(np.prod(shape)) // int(rows)
        layers.append(Layer(path or "layer", kernel, bias, int(rows), features))
    for layer, reader in zip(layers, layers[1:], strict=False):
        if reader.rows % layer.features:
            raise NotSequential(
                f"layer {reader.name!r} reads {reader.rows} numbers, no multiple of "
                f"the {layer.features} units of {layer.name!r} before it"
            )
    dtypes = [calls[path][0].input.dtype for path in order]
    return tuple(layers), max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


def check_symmetry(
    classifier: Classifier,
    spec: TreeSpec,
    layers: tuple[Layer, ...],
    permute: Callable[[Any, tuple[Any, ...]], Any],
    x: Any,
    epsilon: float,
) -> None:
    """Raise NotSequential if the order of hidden units matters to the logits."""
    if len(layers) == 1:
        return
    random = np.random.default_rng(0)

    def draw() -> tuple[Any, Array]:
        leaves = [random.normal(size=shape) for shape in spec.shapes]
        for layer in layers:  # Neither dying out nor saturating from layer to layer.
            leaves[layer.kernel] /= np.sqrt(layer.rows)
        inputs = jnp.asarray(random.normal(size=(8, *x.shape[1:])), x.dtype)
        return spec.structure.unflatten(map(jnp.float32, leaves)), inputs

    @jax.jit
    def logits(params: Any, inputs: Array, orders: tuple[np.ndarray, ...]) -> Array:
        return classifier.apply({"params": permute(params, orders)}, inputs)

    def apply(orders: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.asarray(logits(params, inputs, orders), np.float64)

    # A model that computes in half precision rounds at every layer.
    tolerance = max(1e-4, 16 * epsilon)
    still = tuple(np.arange(layer.features) for layer in layers[:-1])
    with jax.default_matmul_precision("highest"):
        for _ in range(_MOST_DRAWS):
            params, inputs = draw()
            expected = apply(still)
            bound = tolerance * np.abs(expected).max()
            if np.ptp(expected, axis=0).max() > bound:
                break
        else:
            raise NotSequential("random inputs make no difference to its logits")
        for number, order in enumerate(still):
            if order.size < 2:
                continue
            # Each layer by itself: skip connections allow for what moves all alike.
            for moved in (np.r_[1, 0, order[2:]], np.roll(order, 1)):
                orders = (*still[:number], moved, *still[number + 1 :])
                if not np.abs(apply(orders) - expected).max() <= bound:
                    raise NotSequential(
                        f"the order of the units of layer {layers[number].name!r} "
                        "changes the logits (a skip connection, or an operation that "
                        "does not treat all units alike)"
                    )
