"""Projected-gradient unlearning as it was published, in PyTorch: a baseline.

Hoang et al., Learn to unlearn for deep neural networks: minimizing unlearning
interference with gradient projection, WACV 2024, arXiv 2312.04095. Written from a
description of the algorithm, for plain chains of layers, in four phases:

- ``gram``: one epoch over all training data sums ``r r^T`` over every layer's inputs,
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

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Layer", "Request", "run"]

# The relative precision of float32.
_EPSILON = 2.0**-23
# Rows at a time while Gram matrices are summed.
_GRAM_BATCH = 500


class Layer(NamedTuple):
    """A dense or a convolutional layer, as JAX has it; convolutions pad as ``"SAME"``.

    Attributes:
        kernel: ``[in, out]``, or ``[height, width, in, out]`` of a convolution.
        bias: ``[out]``.
        stride: of a convolution, in both directions.
    """

    kernel: np.ndarray
    bias: np.ndarray
    stride: int = 1


class Request(NamedTuple):
    """A model, its data and what to forget.

    Attributes:
        layers: the trained model, ReLU between them; the last one gives logits.
        x: all training inputs, float32, ``[N, H, W, C]``.
        forget_x: inputs to forget, ``[F, H, W, C]``.
        forget_y: their labels, integers, ``[F]``.
        batches: rows of the inputs to forget that each step sees, ``[T, B]``.
        learning_rates: of every step, ``[T]``.
        gamma: the share of the sum of roots of singular values to keep, less than 1.
        offset: in the loss, of the label's probability.
        entropy: its weight in the loss.
        threads: PyTorch's.
    """

    layers: Sequence[Layer]
    x: np.ndarray
    forget_x: np.ndarray
    forget_y: np.ndarray
    batches: np.ndarray
    learning_rates: np.ndarray
    gamma: float
    offset: float
    entropy: float
    threads: int


def run(
    request: Request, decomposition: Literal["svd64", "eigh32"] = "svd64"
) -> dict[str, Any]:
    """Answer the request, after a warm-up with one batch and corners of matrices.

    Args:
        request: model, data and what to forget.
        decomposition: ``"svd64"`` as published, in float64, where negative eigenvalues
            of the difference count as if they were positive; or ``"eigh32"``, in
            float32, where they and what is rounding count nothing.

    Returns:
        ``seconds`` of each phase, by name; ``logits`` of the first hundred rows before
        the first step; ``kernels`` after the last one, as JAX has them; ``ranks``, how
        many directions of each layer were kept.
    """
    torch.set_num_threads(request.threads)
    model = _model(request.layers, request.x.shape[1:3])
    x, forget_x = (
        torch.tensor(images.transpose(0, 3, 1, 2)).contiguous()
        for images in (request.x, request.forget_x)
    )
    forget_y = torch.tensor(request.forget_y, dtype=torch.int64)
    with torch.no_grad():
        logits = model(x[:100]).numpy()

    some = _grams(model, x[:_GRAM_BATCH])
    _projectors([gram[:64, :64] for gram in some], request.gamma, decomposition)
    once = request._replace(
        batches=request.batches[:1], learning_rates=np.zeros(1, np.float32)
    )
    _steps(model, [gram.float() for gram in some], forget_x, forget_y, once)
    del some

    seconds = {}
    full, seconds["gram"] = _timed(_grams, model, x)
    retained, seconds["forget_gram"] = _timed(_without, full, model, forget_x)
    (projectors, ranks), seconds["decompose"] = _timed(
        _projectors, retained, request.gamma, decomposition
    )
    _, seconds["steps"] = _timed(_steps, model, projectors, forget_x, forget_y, request)
    kernels = [
        (layer.weight.permute(2, 3, 1, 0) if layer.weight.ndim == 4 else layer.weight.T)
        .detach()
        .numpy()
        for layer in _layers(model)
    ]
    return {"seconds": seconds, "logits": logits, "kernels": kernels, "ranks": ranks}


class _Flatten(nn.Module):
    """Flattens images height first and channels last, as JAX does."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x


def _model(layers: Sequence[Layer], size: Sequence[int]) -> nn.Sequential:
    modules = []
    for kernel, bias, stride in layers:
        modules += [nn.ReLU()] if modules else []
        if kernel.ndim == 2:
            layer = nn.Linear(*kernel.shape)
            weight = kernel.T
            modules += [_Flatten(), layer]
        else:
            (height, width), *channels = kernel.shape[:2], *kernel.shape[2:]
            pads, places = [], [-(-extent // stride) for extent in size]
            for window, extent, count in zip(
                (height, width), size, places, strict=True
            ):
                total = max((count - 1) * stride + window - extent, 0)
                # As JAX has it: what is odd is added at the end. The last axis first.
                pads = [total // 2, total - total // 2, *pads]
            layer = nn.Conv2d(*channels, (height, width), stride)
            weight, size = kernel.transpose(3, 2, 0, 1), places
            modules += [nn.ZeroPad2d(tuple(pads)), layer]
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.ascontiguousarray(weight)))
            layer.bias.copy_(torch.tensor(np.asarray(bias)))
    return nn.Sequential(*modules)


def _layers(model: nn.Sequential) -> list[Any]:
    return [layer for layer in model if isinstance(layer, (nn.Linear, nn.Conv2d))]


@torch.no_grad()
def _grams(model: nn.Sequential, x: Any) -> list[Any]:
    """``sum_i r_i r_i^T`` over every layer's inputs, float64, ``[D, D]`` each."""
    layers = _layers(model)
    sizes = [layer.weight[0].numel() for layer in layers]
    grams = [torch.zeros(size, size, dtype=torch.float64) for size in sizes]

    def add(layer, given, gram):
        (rows,) = given
        if isinstance(layer, nn.Conv2d):
            rows = F.unfold(rows, layer.kernel_size, stride=layer.stride)
            rows = rows.transpose(1, 2).flatten(0, 1)
        rows = rows.double()
        gram.addmm_(rows.T, rows)

    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, given, gram=gram: add(layer, given, gram)
        )
        for layer, gram in zip(layers, grams, strict=True)
    ]
    for batch in x.split(_GRAM_BATCH):
        model(batch)
    for hook in hooks:
        hook.remove()
    return grams


def _without(full: list[Any], model: nn.Sequential, x: Any) -> list[Any]:
    return [gram - less for gram, less in zip(full, _grams(model, x), strict=True)]


def _projectors(
    grams: list[Any], gamma: float, decomposition: str
) -> tuple[list[Any], list[int]]:
    """``M M^T`` of every layer, float32, and the ranks of ``M``."""
    projectors, ranks = [], []
    for gram in grams:
        if decomposition == "svd64":
            basis, values, _ = torch.linalg.svd(gram)
        else:
            values, basis = (part.flip(-1) for part in torch.linalg.eigh(gram.float()))
            values = values.where(values > _EPSILON * values[0], 0)
        mass = values.sqrt()
        ranks.append(int((mass.cumsum(0) / mass.sum() <= gamma).sum()))
        kept = basis[:, : ranks[-1]].float()
        projectors.append(kept @ kept.T)
    return projectors, ranks


def _steps(
    model: nn.Sequential, projectors: list[Any], x: Any, y: Any, request: Request
) -> None:
    """Takes all steps, in place."""
    weights = [layer.weight for layer in _layers(model)]
    rates = request.learning_rates.tolist()
    for rows, rate in zip(torch.tensor(request.batches), rates, strict=True):
        p = model(x[rows]).softmax(-1)
        own = p.gather(1, y[rows, None])
        unlikely = -torch.log(1 + request.offset - own).mean()
        entropy = -(p * torch.log(p + 1e-15)).sum(-1).mean()
        gradients = torch.autograd.grad(unlikely - request.entropy * entropy, weights)
        with torch.no_grad():
            for weight, gradient, projector in zip(
                weights, gradients, projectors, strict=True
            ):
                flat = gradient.flatten(1)
                weight -= rate * (flat - flat @ projector).view_as(weight)


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begin
