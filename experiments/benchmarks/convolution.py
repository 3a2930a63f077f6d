"""Time convolutions, and a training step of a small residual network, on the CPU.

    python experiments/benchmarks/convolution.py --out runs/benchmark-convolution

Two parts, of which ``--parts`` chooses:

- ``layers``: a 3 x 3 convolution and its two gradients, written in several ways, within
  a scan (``lax`` outside of one as well), against PyTorch.
- ``training``: a step of ``hf.fit`` of a ResNet-8, of one model and of four under
  ``vmap``, and a jitted step with ``nn.Conv`` called from Python, against PyTorch.

PyTorch has a process of its own and as many threads as there are CPUs; without it the
rest is measured. Entrants take turns in one run, so that a machine whose speed drifts
slows all, and compilation is left out. The figure to quote is the ratio to PyTorch's
seconds, its median over repeats. Do nothing else on the machine.
"""

import dataclasses
import functools
import importlib.util
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import records
import timing
import tyro
from baselines import convolution_ways as ways
from jax import lax
from rich.console import Console

import hyperforget_jax as hf

PARTS = ("layers", "training")
# Channels given and made, and sides of the images.
LAYERS = ((3, 16, 32), (16, 16, 32), (32, 32, 16), (64, 64, 8))
IN_A_SCAN: dict[str, Callable[..., jax.Array]] = {
    "conv": functools.partial(hf.models.conv, **ways.HOW),
    "lax": ways.native,
    "patches": ways.patches,
    "shifted": ways.shifted,
    "winograd": ways.winograd,
}
MODELS = 4


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Convolutions and a training step of a ResNet-8, against PyTorch."""

    parts: tuple[Literal["layers", "training"], ...] = PARTS
    """layers: one convolution; training: a step of a network."""
    batch_size: int = 128
    """Images in a minibatch."""
    steps: int = 4
    """Training steps in a turn."""
    repeats: int = 3
    """Turns that the entrants take."""
    out: Path = Path("runs/benchmark-convolution")
    """Where the results go."""


def main(config: Benchmark) -> None:
    """Measure, print and write."""
    console, begin = Console(), time.perf_counter()
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        torch = None
        if importlib.util.find_spec("torch"):
            from baselines import convolution_torch as torch
        else:
            console.print("PyTorch is left out: pip install '.[benchmark]'.")

        def rival(name: str, *arguments: int) -> dict[str, Callable[[], Any]]:
            if torch is None:
                return {}
            function = getattr(torch, name)
            return {"pytorch": lambda: pool.apply(function, arguments)}

        if "layers" in config.parts:
            for layer in LAYERS:
                sizes = (*layer, config.batch_size)
                entrants = layers(*sizes) | rival("layer_seconds", *sizes)
                rows += measure(config, entrants, "conv-{}-{}-{}".format(*layer))
        if "training" in config.parts:
            sizes = (config.batch_size, config.steps)
            entrants = training(*sizes) | rival("step_seconds", *sizes)
            rows += measure(config, entrants, "resnet-8")
    for row in rows:
        medians = {
            name: round(float(np.median(one["values"])), 2)
            for name, one in row["metrics"].items()
        }
        console.print(row["model"], row["method"], medians)
    records.write(config, rows, begin)


def layers(
    given: int, channels: int, size: int, batch: int
) -> dict[str, Callable[[], list[float]]]:
    """Compile every way to convolve; each entrant gives seconds of all three."""
    key_x, key_kernel, key_out = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, (batch, size, size, given))
    kernel = jax.random.normal(key_kernel, (3, 3, given, channels))
    out = jax.random.normal(key_out, (batch, size, size, channels))
    expected = None
    entrants = {}
    for where, name, convolve in (
        ("outside", "lax", ways.native),
        *(("scan", *entrant) for entrant in IN_A_SCAN.items()),
    ):
        programs = [convolve, *_gradients(convolve, x, kernel)]
        operands = [(x, kernel), (out, kernel), (out, x)]
        answers = [
            jax.jit(program)(*own)
            for program, own in zip(programs, operands, strict=True)
        ]
        expected = expected or answers
        for answer, right in zip(answers, expected, strict=True):
            # Sums of up to 131,072 products in another order.
            np.testing.assert_allclose(
                answer, right, atol=1e-4 * float(jnp.abs(right).max())
            )
        if where == "scan":
            programs = map(_scanned, programs)
        compiled = [
            timing.compiled(program, *own)[0]
            for program, own in zip(programs, operands, strict=True)
        ]
        times = _TURNS if where == "scan" else 1
        for function in compiled:
            jax.block_until_ready(function())
        entrants[f"{name}/{where}"] = functools.partial(_seconds, compiled, times)
    return entrants


def training(batch: int, steps: int) -> dict[str, Callable[[], float]]:
    """Compile the trainings; each entrant gives the seconds of a model's step."""
    key_x, key_y = jax.random.split(jax.random.key(0))
    count = 4 * batch
    data = hf.Examples(
        jax.random.normal(key_x, (count, 32, 32, 3)),
        jax.random.randint(key_y, (count,), 0, 10, jnp.int32),
        jnp.ones(count, jnp.int32),
        jnp.arange(count),
    )
    keys, optimizer = jax.random.split(jax.random.key(1), MODELS), optax.sgd(0.1, 0.9)
    classifiers = {
        layer: hf.from_linen(ResNet8(layer), **MODES)
        for layer in (functools.partial(nn.Conv, **OURS), nn.Conv)
    }
    ours, flax = classifiers.values()

    def fit(key, data):
        return hf.fit(key, ours, data, optimizer, steps, batch_size=batch)

    one, _ = timing.compiled(fit, keys[0], data)
    several, _ = timing.compiled(jax.vmap(fit, (0, None)), keys, data)

    @jax.jit
    def step(variables, opt_state, x, y):
        def loss(params):
            logits, after = flax.apply_train(
                keys[0], {**variables, "params": params}, x
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return jnp.mean(losses), after

        grads, after = jax.grad(loss, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(variables["params"], updates)
        return {**after, "params": params}, opt_state

    x, y = np.asarray(data.x), np.asarray(data.y)
    variables = jax.jit(flax.init)(keys[0], data.x)
    start = (variables, optimizer.init(variables["params"]))

    def loop():
        state, generator = start, np.random.default_rng(0)
        for _ in range(steps):
            rows = generator.permutation(count)[:batch]
            state = step(*state, x[rows], y[rows])
        return state

    calls = {
        "fit/scan": (one, steps),
        f"fit-x{MODELS}/scan": (several, steps * MODELS),
        "nn.Conv/outside": (loop, steps),
    }
    for call, _ in calls.values():
        jax.block_until_ready(call())
    return {
        name: functools.partial(lambda *of: _seconds(*of)[0], [call], times)
        for name, (call, times) in calls.items()
    }


class ResNet8(nn.Module):
    """Three blocks of two convolutions: 78,042 parameters on 32 x 32 x 3 images."""

    layer: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x, train):
        norm = functools.partial(nn.BatchNorm, not train, momentum=0.9)
        x = nn.relu(norm()(self.layer(16, (3, 3), use_bias=False)(x)))
        for width, stride in ((16, 1), (32, 2), (64, 2)):
            y = self.layer(width, (3, 3), strides=stride, use_bias=False)(x)
            y = self.layer(width, (3, 3), use_bias=False)(nn.relu(norm()(y)))
            if stride > 1:
                x = norm()(self.layer(width, (1, 1), strides=stride, use_bias=False)(x))
            x = nn.relu(x + norm()(y))
        return nn.Dense(10)(jnp.mean(x, (1, 2)))


OURS = dict(conv_general_dilated=hf.models.conv)
MODES = dict(train={"train": True}, eval={"train": False})
# How often a scan repeats what it times.
_TURNS = 3


def _gradients(convolve, x, kernel):
    """Make the gradients of inputs, ``(out, kernel)``, and of kernels, ``(out, x)``."""

    def of_inputs(out, kernel):
        return jax.linear_transpose(lambda x: convolve(x, kernel), x)(out)[0]

    def of_kernel(out, x):
        return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(out)[0]

    return of_inputs, of_kernel


def _scanned(function):
    """Repeat a function in a scan, none of whose turns can be left out."""

    def scanned(first, second):
        def turn(carry, _):
            first, total = carry
            found = function(first, second).ravel()
            return (first + 1e-9 * found[0], total + found[1]), None

        return lax.scan(turn, (first, 0.0), length=_TURNS)[0]

    return scanned


def _seconds(functions, times: int) -> list[float]:
    return [timing.seconds_of(function) / times for function in functions]


def measure(
    config: Benchmark, entrants: dict[str, Callable[[], Any]], model: str
) -> list[dict[str, Any]]:
    """Let the entrants take turns; a row for each."""
    found = {
        name: np.reshape(seconds, (config.repeats, -1))
        for name, seconds in timing.turns(entrants, config.repeats).items()
    }
    parts = ("outputs", "inputs", "kernel") if model != "resnet-8" else ("step",)
    rows = []
    for name, seconds in found.items():
        metrics = {
            f"milliseconds_{part}": 1000 * own
            for part, own in zip(parts, seconds.T, strict=True)
        }
        if "pytorch" in found and name != "pytorch":
            metrics["ratio_to_pytorch"] = seconds.sum(1) / found["pytorch"].sum(1)
        rows.append(
            records.row(
                name,
                metrics,
                dataset="noise",
                model=model,
                access=hf.Access(),
                seconds=records.NOT_TIMED,
            )
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
