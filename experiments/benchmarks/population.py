"""Time the training of populations against a loop, and convolutions against Flax's.

    python experiments/benchmarks/population.py --out runs/benchmark-population

Both take turns in one run, so that a machine whose speed drifts slows both. The figure
to quote is the ratio, its median over repeats. Compilation is left out: both are run
once before the clock starts.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
import tyro
from rich.console import Console

import hyperforget_jax as hf


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Populations against a loop, and convolutions against Flax's."""

    members: int = 256
    """Classifiers in the population."""
    steps: int = 200
    """Training steps of each."""
    every: int = 20
    """A checkpoint is kept after so many steps."""
    loop_members: int = 8
    """Classifiers that the loop trains; its rate does not depend on their number."""
    repeats: int = 5
    """Turns that both take."""
    out: Path = Path("runs/benchmark-population")
    """Where the results go."""


def main(config: Benchmark) -> None:
    """Measure, print and write."""
    console, begin = Console(), time.perf_counter()
    rows = []
    for hidden in ((16,), (64,)):
        found = populations(config, hidden)
        rows += found
        console.print(f"digits, MLP {hidden}: {_ratio(found)}")
    for members in (1, 8):
        found = convolutions(config, members)
        rows += found
        console.print(f"convolution in a scan, {members} models: {_ratio(found)}")
    document = hf.report.results_document(
        rows,
        preset="benchmark",
        config=dataclasses.asdict(config),
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    hf.report.write(config.out / "results.json", document, references=False)


def populations(config: Benchmark, hidden: tuple[int, ...]):
    """Compare ``fit_population`` with a jitted loop: checkpoints a second."""
    data = hf.data.load("digits").train
    classifier = hf.from_linen(hf.models.MLP(hidden))
    optimizer, batch_size = optax.adam(3e-3), 128
    kept = tuple(range(config.every, config.steps + 1, config.every))

    def population(members):
        hf.fit_population(
            jax.random.key(0),
            classifier,
            data,
            optimizer,
            config.steps,
            members=members,
            batch_size=batch_size,
            checkpoint_steps=kept,
            progress=False,
        )

    @jax.jit
    def step(params, opt_state, x, y):
        def loss(params):
            logits = classifier.apply({"params": params}, x)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

        grads = jax.grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    @jax.jit
    def begin(key):
        params = classifier.init(key, data.x)["params"]
        return params, optimizer.init(params)

    x, y = np.asarray(data.x), np.asarray(data.y)

    def loop(members):
        # Every model draws its own minibatches: a permutation an epoch, as fit does.
        for member in range(members):
            generator = np.random.default_rng(member)
            params, opt_state = begin(jax.random.key(member))
            order, checkpoints = [], []
            for number in range(1, config.steps + 1):
                if len(order) < batch_size:
                    order = generator.permutation(len(y))
                rows, order = order[:batch_size], order[batch_size:]
                params, opt_state = step(params, opt_state, x[rows], y[rows])
                if number in kept:
                    checkpoints.append(jax.device_get(params))

    population(config.members)
    loop(1)
    rates = {"population": [], "loop": []}
    for _ in range(config.repeats):
        for name, train, count in (
            ("population", population, config.members),
            ("loop", loop, config.loop_members),
        ):
            seconds = timing.seconds_of(train, count)
            rates[name].append(count * len(kept) / seconds)
    return _rows(rates, "checkpoints_per_second", f"mlp-{hidden[0]}", "digits")


def convolutions(config: Benchmark, members: int):
    """Compare three convolutions in a scan with Flax's: steps per second and model."""

    class Network(nn.Module):
        layer: Callable[..., nn.Module]

        @nn.compact
        def __call__(self, x):
            for channels, strides in ((16, 1), (32, 2), (32, 2)):
                x = nn.relu(self.layer(channels, (3, 3), strides=strides)(x))
            return nn.Dense(10)(jnp.mean(x, axis=(1, 2)))

    layers: dict[str, Callable[..., nn.Module]] = {
        "conv": functools.partial(nn.Conv, conv_general_dilated=hf.models.conv),
        "nn.Conv": nn.Conv,
    }
    steps, batch_size = 5, 64
    ones = jnp.ones(batch_size, jnp.int32)
    key_x, key_y = jax.random.split(jax.random.key(0))
    data = hf.Examples(
        jax.random.normal(key_x, (batch_size, 28, 28, 1)),
        jax.random.randint(key_y, (batch_size,), 0, 10, jnp.int32),
        ones,
        jnp.arange(batch_size),
    )
    keys = jax.random.split(jax.random.key(1), members)
    compiled = {}
    for name, layer in layers.items():
        classifier = hf.from_linen(Network(layer))

        def fit(key, data, classifier=classifier):
            optimizer = optax.adam(1e-3)
            return hf.fit(
                key, classifier, data, optimizer, steps, batch_size=batch_size
            )

        over_keys = jax.vmap(fit, (0, None))
        compiled[name] = jax.jit(over_keys).lower(keys, data).compile()
        jax.block_until_ready(compiled[name](keys, data))
    rates = {name: [] for name in layers}
    for _ in range(config.repeats):
        for name, function in compiled.items():
            seconds = timing.seconds_of(function, keys, data)
            rates[name].append(members * steps / seconds)
    return _rows(rates, "model_steps_per_second", f"cnn-x{members}", "noise-28x28")


def _rows(rates, unit, model, dataset):
    (ours, values), (rival, others) = rates.items()
    ratios = np.divide(values, others)
    metrics = {
        ours: [
            {unit: rate, "ratio_to_rival": ratio}
            for rate, ratio in zip(values, ratios, strict=True)
        ],
        rival: [{unit: rate} for rate in others],
    }
    return [
        hf.report.results_row(
            name,
            found,
            dataset=dataset,
            model=model,
            scenario="speed",
            request="none",
            access=hf.Access(),
            seconds={"init": 0.0, "unlearn": 0.0, "compile": 0.0},
            over="repeat",
        )
        for name, found in metrics.items()
    ]


def _ratio(rows) -> str:
    values = rows[0]["metrics"]["ratio_to_rival"]["values"]
    return f"{np.median(values):.2f}x (from {min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
