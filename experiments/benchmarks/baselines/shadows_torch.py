"""Shadow models in PyTorch, one after the other: a baseline.

The loop that people write, where data are in memory and nothing is logged: a
perceptron a model, Adam, and a permutation of the model's own rows an epoch.

NumPy and PyTorch are all it needs; JAX is not imported.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

__all__ = ["Request", "run"]


class Request(NamedTuple):
    """Which models to train, and on what.

    Attributes:
        x: all training inputs, float32, ``[N, D]``.
        y: their labels, integers, ``[N]``.
        rows: those that each model sees, ``[P, n]``.
        test_x: inputs to judge the models by, ``[T, D]``.
        test_y: their labels, ``[T]``.
        layers: weights to start from, ``kernel`` ``[P, in, out]`` and ``bias``
            ``[P, out]``, ReLU between them.
        learning_rate: Adam's.
        steps: minibatches for each model.
        batch_size: rows in each.
    """

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    layers: Sequence[Mapping[str, np.ndarray]]
    learning_rate: float
    steps: int
    batch_size: int


def run(request: Request, threads: int) -> dict[str, Any]:
    """Train all models, after a few steps of one as a warm-up.

    Args:
        request: what to train.
        threads: PyTorch's.

    Returns:
        ``seconds`` of the training, and the models' mean ``accuracy``.
    """
    torch.set_num_threads(threads)
    x, test_x = torch.tensor(request.x), torch.tensor(request.test_x)
    y, test_y = (
        torch.tensor(labels, dtype=torch.int64)
        for labels in (request.y, request.test_y)
    )
    rows = torch.tensor(request.rows, dtype=torch.int64)
    _train(request._replace(steps=min(10, request.steps)), x, y, rows, 0)
    begin = time.perf_counter()
    models = [_train(request, x, y, rows, number) for number in range(len(rows))]
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        right = [
            (model(test_x).argmax(-1) == test_y).float().mean() for model in models
        ]
    return {"seconds": seconds, "accuracy": float(torch.stack(right).mean())}


def _train(request: Request, x: Any, y: Any, rows: Any, number: int) -> nn.Module:
    modules: list[nn.Module] = []
    for layer in request.layers:
        kernel = torch.tensor(layer["kernel"][number])
        linear = nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(kernel.T)
            linear.bias.copy_(torch.tensor(layer["bias"][number]))
        modules += [*([nn.ReLU()] if modules else []), linear]
    model = nn.Sequential(*modules)
    optimizer = torch.optim.Adam(model.parameters(), lr=request.learning_rate)
    loss = nn.CrossEntropyLoss()
    batches = _batches(rows[number], request.batch_size)
    for batch in itertools.islice(batches, request.steps):
        optimizer.zero_grad()
        loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model


def _batches(rows: Any, size: int) -> Iterator[Any]:
    while True:
        order = rows[torch.randperm(len(rows))]
        yield from order[: len(order) // size * size].split(size)
