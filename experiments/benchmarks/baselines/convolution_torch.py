"""Convolutions and a small residual network in PyTorch, channels last: a baseline.

NumPy and PyTorch are all it needs; JAX is not imported.
"""

import os
import time
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["layer_seconds", "step_seconds"]

LAST = torch.channels_last


def layer_seconds(given: int, channels: int, size: int, batch: int) -> list[float]:
    """Time a 3 x 3 convolution: outputs, gradients of inputs and of the kernel."""
    _use_all_cpus()
    x = torch.randn(batch, given, size, size).to(memory_format=LAST)
    kernel = torch.randn(channels, given, 3, 3).to(memory_format=LAST)
    out = torch.randn(batch, channels, size, size).to(memory_format=LAST)

    def gradient(of):
        how = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
        return torch.ops.aten.convolution_backward(out, x, kernel, None, *how, of)

    with torch.no_grad():
        return [
            _shortest(lambda: nn.functional.conv2d(x, kernel, padding=1)),
            _shortest(lambda: gradient([True, False, False])),
            _shortest(lambda: gradient([False, True, False])),
        ]


def step_seconds(batch: int, steps: int) -> float:
    """Time a training step of ResNet-8 on 32 x 32 x 3 images, by SGD with momentum."""
    _use_all_cpus()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(memory_format=LAST)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = torch.randn(4 * batch, 3, 32, 32).to(memory_format=LAST)
    y = torch.randint(0, 10, (4 * batch,))

    def step():
        rows = torch.randint(0, len(y), (batch,))
        optimizer.zero_grad()
        logits = model(x[rows].contiguous(memory_format=LAST))
        nn.functional.cross_entropy(logits, y[rows]).backward()
        optimizer.step()

    step()
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begin) / steps


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is projected where shapes differ."""

    def __init__(self, given: int, channels: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(given, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.Sequential()
        if given != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(given, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _use_all_cpus() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def _shortest(function: Callable[[], object], times: int = 3) -> float:
    function()
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
