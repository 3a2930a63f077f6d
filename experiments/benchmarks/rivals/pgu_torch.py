"""Projected-gradient unlearning as it was published, in PyTorch: a benchmark's rival.

Hoang et al., Learn to unlearn for deep neural networks: minimizing unlearning
interference with gradient projection, WACV 2024, arXiv 2312.04095. Written from a
description of the algorithm, for plain chains of layers, in four phases:

- ``gram``: one pass over all training data sums ``r r^T`` over every layer's inputs,
  patches in a convolution, in float64. Done once, when the model is trained.
- ``forget_gram``: the same over the examples to forget, and the difference.
- ``decompose``: the singular vectors of the difference, as many as hold the share
  ``gamma`` of the sum of roots of singular values, and the projector ``P = M M^T``.
- ``steps``: descent by hand, without momentum, on ``-log(1 + offset - p_y)`` minus the
  weighted entropy, over examples to forget alone. Gradients of weights become
  ``g - g P``; biases stay as they are.

Where it was slow for no good reason it is better here, so that nobody beats a straw
man. Losses are of whole batches. Patches are taken at the layer's own stride, not at
stride one whatever the layer's. The first Gram matrices are kept as they are, and not
decomposed to be put together again; they take more rows at a time. Nothing is evaluated
between steps. Data are in memory, and stay there.

NumPy and PyTorch are all it needs; JAX is not imported.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    raise ImportError(
        "This rival needs PyTorch (the CPU build will do): pip install '.[benchmark]'."
    ) from error

__all__ = ["Layer", "Spec", "check_forward", "run"]

# The relative precision of float32.
_EPSILON = 2.0**-23


class Layer(NamedTuple):
    """A dense or a convolutional layer, as JAX has it.

    Attributes:
        kernel: ``[in, out]``, or ``[height, width, in, out]`` of a convolution.
        bias: ``[out]``, or None.
        stride: of a convolution, in both directions.
        padding: of a convolution: ``"SAME"``, or ``(low, high)`` for height and width.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    stride: int = 1
    padding: Literal["SAME"] | Sequence[tuple[int, int]] = "SAME"


Chain = Sequence[Layer | Literal["relu", "flatten"]]
"""Layers one after another; an image is flattened height first, channels last."""


class Spec(NamedTuple):
    """A model, its data and one request.

    Attributes:
        layers: the trained model; the last one gives logits.
        x: all training inputs, float32, ``[N, H, W, C]`` or ``[N, features]``.
        forget_x: inputs to forget, ``[F, ...]``.
        forget_y: their labels, integers, ``[F]``.
        batches: rows of the inputs to forget that each step sees, ``[T, B]``.
        learning_rate: of every step, or one for each, ``[T]``.
        gamma: the share of the sum of roots of singular values to keep, less than 1.
        offset: in the loss, of the label's probability.
        entropy: its weight in the loss.
        decomposition: ``"svd64"`` as published, in float64, where negative eigenvalues
            of the difference count as if they were positive; or ``"eigh32"``, in
            float32, where they and what is rounding count nothing.
        gram_batch: rows at a time while Gram matrices are summed.
        threads: PyTorch's, or None for as many as it likes.
        dtype: of everything that has no dtype of its own above.
    """

    layers: Chain
    x: np.ndarray
    forget_x: np.ndarray
    forget_y: np.ndarray
    batches: np.ndarray
    learning_rate: float | np.ndarray = 0.05
    gamma: float = 0.95
    offset: float = 0.05
    entropy: float = 0.2
    decomposition: Literal["svd64", "eigh32"] = "svd64"
    gram_batch: int = 500
    threads: int | None = None
    dtype: Literal["float32", "float64"] = "float32"


class _Step(NamedTuple):
    """One link of the chain, as PyTorch has it.

    Attributes:
        kind: ``"dense"``, ``"conv"``, ``"relu"`` or ``"flatten"``.
        weight: ``[out, in]`` or ``[out, in, height, width]``, or None.
        bias: ``[out]``, or None.
        image: ``(channels, height, width)`` of what a dense layer's input was flattened
            from, or None.
        stride: of a convolution.
        padding: of a convolution, on both sides of height and width.
        extra: what comes on top of it: left, right, top, bottom.
    """

    kind: str
    weight: Any = None
    bias: Any = None
    image: tuple[int, int, int] | None = None
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    extra: tuple[int, int, int, int] = (0, 0, 0, 0)


def run(spec: Spec) -> dict[str, Any]:
    """Answers the request, after a warm-up with one batch and corners of matrices.

    Args:
        spec: model, data and request.

    Returns:
        ``seconds`` of each phase, by name; ``kernels`` after the last step, one a layer
        with weights, as JAX has them; ``ranks``, how many directions of each were kept.
    """
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    chain = _to_torch(spec.layers, spec.x.shape[1:], spec.dtype)
    x, forget_x = (_inputs(values, spec.dtype) for values in (spec.x, spec.forget_x))
    forget_y = torch.as_tensor(np.asarray(spec.forget_y, np.int64))

    once = spec._replace(batches=spec.batches[:1], learning_rate=0.0)
    some = _grams(chain, x[: spec.gram_batch], spec.gram_batch)
    _projectors([gram[:64, :64] for gram in some], spec)
    nothing = [torch.zeros_like(gram, dtype=x.dtype) for gram in some]
    _descend(chain, nothing, forget_x, forget_y, once)
    del some, nothing

    seconds = {}
    full, seconds["gram"] = _timed(_grams, chain, x, spec.gram_batch)
    retained, seconds["forget_gram"] = _timed(
        _without, full, chain, forget_x, spec.gram_batch
    )
    (projectors, ranks), seconds["decompose"] = _timed(_projectors, retained, spec)
    weights, seconds["steps"] = _timed(
        _descend, chain, projectors, forget_x, forget_y, spec
    )
    layers = [step for step in chain if step.weight is not None]
    return {
        "seconds": seconds,
        "kernels": [
            _kernel(weight, step.image)
            for step, weight in zip(layers, weights, strict=True)
        ],
        "ranks": ranks,
    }


def check_forward(layers: Chain, x: np.ndarray, logits: np.ndarray) -> float:
    """Raises AssertionError unless the chain gives the logits that JAX gave.

    Args:
        layers: the model.
        x: inputs, ``[N, ...]``.
        logits: what JAX gave for them, ``[N, C]``.

    Returns:
        The largest difference.
    """
    chain = _to_torch(layers, x.shape[1:], "float32")
    with torch.no_grad():
        found = _forward(chain, _weights(chain), _inputs(x, "float32")).numpy()
    np.testing.assert_allclose(found, np.asarray(logits), rtol=1e-3, atol=1e-4)
    return float(np.abs(found - np.asarray(logits)).max())


def _to_torch(layers: Chain, shape: tuple[int, ...], dtype: str) -> list[_Step]:
    chain, flattened = [], None
    for layer in layers:
        if isinstance(layer, str):
            if layer == "flatten" and len(shape) == 3:
                height, width, channels = shape
                flattened, shape = (channels, height, width), (int(np.prod(shape)),)
            chain.append(_Step(layer))
            continue
        bias = None if layer.bias is None else _tensor(layer.bias, dtype)
        kernel = np.asarray(layer.kernel)
        if kernel.ndim == 2:
            weight = kernel.T
            if flattened is not None:
                # PyTorch has channels first.
                channels, height, width = flattened
                weight = weight.reshape(-1, height, width, channels)
                weight = weight.transpose(0, 3, 1, 2).reshape(kernel.shape[::-1])
            chain.append(_Step("dense", _tensor(weight, dtype), bias, flattened))
            flattened, shape = None, (kernel.shape[1],)
            continue
        pads = _pads(layer, shape)
        both = [min(pad) for pad in pads]
        (top, bottom), (left, right) = (
            (low - least, high - least)
            for (low, high), least in zip(pads, both, strict=True)
        )
        chain.append(
            _Step(
                "conv",
                _tensor(kernel.transpose(3, 2, 0, 1), dtype),
                bias,
                stride=layer.stride,
                padding=(both[0], both[1]),
                extra=(left, right, top, bottom),
            )
        )
        height, width = (
            (size + sum(pad) - window) // layer.stride + 1
            for size, pad, window in zip(shape, pads, kernel.shape, strict=False)
        )
        shape = (height, width, kernel.shape[3])
    return chain


def _pads(layer: Layer, shape: tuple[int, ...]) -> Sequence[tuple[int, int]]:
    if layer.padding != "SAME":
        return layer.padding
    pads = []
    for size, window in zip(shape[:2], layer.kernel.shape[:2], strict=True):
        steps = -(-size // layer.stride) - 1
        total = max(steps * layer.stride + window - size, 0)
        # As JAX has it: what is odd is added at the end.
        pads.append((total // 2, total - total // 2))
    return pads


def _kernel(weight: Any, image: tuple[int, int, int] | None) -> np.ndarray:
    """A weight as JAX has it: the way back from :func:`_to_torch`."""
    weight = weight.numpy()
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if image is not None:
        shape = weight.shape
        weight = weight.reshape(-1, *image).transpose(0, 2, 3, 1).reshape(shape)
    return weight.T


def _tensor(values: np.ndarray, dtype: str) -> Any:
    return torch.tensor(np.ascontiguousarray(values), dtype=getattr(torch, dtype))


def _inputs(x: np.ndarray, dtype: str) -> Any:
    x = np.asarray(x)
    return _tensor(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x, dtype)


def _weights(chain: list[_Step]) -> list[Any]:
    return [step.weight for step in chain if step.weight is not None]


def _forward(
    chain: list[_Step],
    weights: list[Any],
    x: Any,
    see: Callable[[_Step, Any], None] = lambda step, x: None,
) -> Any:
    """Logits; ``see`` is shown the input, padded if need be, of every layer."""
    remaining = iter(weights)
    for step in chain:
        if step.kind == "relu":
            x = F.relu(x)
        elif step.kind == "flatten":
            x = x.flatten(1)
        elif step.kind == "dense":
            see(step, x)
            x = F.linear(x, next(remaining), step.bias)
        else:
            x = F.pad(x, step.extra) if any(step.extra) else x
            see(step, x)
            x = F.conv2d(x, next(remaining), step.bias, step.stride, step.padding)
    return x


@torch.no_grad()
def _grams(chain: list[_Step], x: Any, batch_size: int) -> list[Any]:
    """``sum_i r_i r_i^T`` over every layer's inputs, float64, ``[D, D]`` each."""
    grams = [
        torch.zeros(weight[0].numel(), weight[0].numel(), dtype=torch.float64)
        for weight in _weights(chain)
    ]
    for batch in x.split(batch_size):
        turn = itertools.count()

        def see(step, x, turn=turn):
            if step.kind == "conv":
                window = step.weight.shape[2:]
                x = F.unfold(x, window, padding=step.padding, stride=step.stride)
                x = x.transpose(1, 2).flatten(0, 1)
            x = x.double()
            grams[next(turn)].addmm_(x.T, x)

        _forward(chain, _weights(chain), batch, see)
    return grams


def _without(full: list[Any], chain: list[_Step], x: Any, batch_size: int) -> list[Any]:
    forgotten = _grams(chain, x, batch_size)
    return [gram - less for gram, less in zip(full, forgotten, strict=True)]


def _projectors(grams: list[Any], spec: Spec) -> tuple[list[Any], list[int]]:
    """``M M^T`` of every layer, dense, and the ranks of ``M``."""
    projectors, ranks = [], []
    for gram in grams:
        if spec.decomposition == "svd64":
            basis, values, _ = torch.linalg.svd(gram)
        else:
            values, basis = (part.flip(-1) for part in torch.linalg.eigh(gram.float()))
            values = values.where(values > _EPSILON * values[0], 0)
        mass = values.sqrt()
        rank = int((mass.cumsum(0) / mass.sum() <= spec.gamma).sum())
        kept = basis[:, :rank].to(getattr(torch, spec.dtype))
        projectors.append(kept @ kept.T)
        ranks.append(rank)
    return projectors, ranks


def _descend(
    chain: list[_Step], projectors: list[Any], x: Any, y: Any, spec: Spec
) -> list[Any]:
    """The weights after all steps; those of the chain are left as they are."""
    weights = [weight.clone().requires_grad_() for weight in _weights(chain)]
    rates = np.broadcast_to(spec.learning_rate, len(spec.batches)).tolist()
    for rows, rate in zip(torch.as_tensor(spec.batches), rates, strict=True):
        loss = _loss(_forward(chain, weights, x[rows]), y[rows], spec)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient, projector in zip(
                weights, gradients, projectors, strict=True
            ):
                flat = gradient.flatten(1)
                weight -= rate * (flat - flat @ projector).view_as(weight)
    return [weight.detach() for weight in weights]


def _loss(logits: Any, y: Any, spec: Spec) -> Any:
    p = logits.softmax(-1)
    own = p.gather(1, y[:, None])
    unlikely = -torch.log(1 + spec.offset - own).mean()
    entropy = -(p * torch.log(p + 1e-15)).sum(-1).mean()
    return unlikely - spec.entropy * entropy


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begun
