"""How much of what a device can compute is reached by training, in FLOP/s."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from benchmarks import timing
from rich.console import Console

import hyperforget_jax as hf

MODES = dict(train={"train": True}, eval={"train": False})
# Products in a row: one alone would be over before the next can be asked for.
PRODUCTS = 10
# What the matrices are made of, and how exactly they are to be multiplied. "float32"
# is what training asks for, which accelerators answer with fewer digits.
PRECISIONS: dict[str, tuple[Any, Any]] = {
    "bfloat16": (jnp.bfloat16, None),
    "float32": (jnp.float32, None),
    "float32-highest": (jnp.float32, jax.lax.Precision.HIGHEST),
}


class Sizes(NamedTuple):
    """How large what is measured is.

    Attributes:
        repeats: turns that all take.
        side: of the square matrices that are multiplied.
        members: of the population.
        hidden: width of its members' hidden layer, between 784 inputs and ten classes.
        population_steps: training steps of each.
        widths: of the ResNet-18's stages.
        steps: training steps of it.
        batch_size: rows a minibatch, of both.
    """

    repeats: int = 3
    side: int = 8192
    members: int = 512
    hidden: int = 128
    population_steps: int = 1_000
    widths: Sequence[int] = (64, 128, 256, 512)
    steps: int = 100
    batch_size: int = 512


class Entrant(NamedTuple):
    """What is timed.

    Attributes:
        run: computes it; everything is compiled.
        flops: what it computes on each device, in floating-point operations.
        model: what is trained; none for products.
        devices: on how many.
        steps: training steps that a run takes.
    """

    run: Callable[[], Any]
    flops: float
    model: str = "none"
    devices: int = 1
    steps: int = 1


def measure(sizes: Sizes, console: Console) -> list[dict[str, Any]]:
    """Measure FLOP/s of large products, of a population's and a ResNet-18's training.

    All take turns in one run. A training's row has its ratios to the products.
    """
    entrants = {name: product(sizes.side, *how) for name, how in PRECISIONS.items()}
    entrants |= {"population": population(sizes), "resnet-18": resnet18(sizes)}
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    for entrant in entrants.values():
        jax.block_until_ready(entrant.run())
    for _ in range(sizes.repeats):
        for name, entrant in entrants.items():
            seconds[name].append(timing.seconds_of(entrant.run))
    rates = {
        name: [entrants[name].flops / each for each in taken]
        for name, taken in seconds.items()
    }
    rows = []
    for name, entrant in entrants.items():
        found = []
        for turn, rate in enumerate(rates[name]):
            one = {"flops_per_second": rate}
            if name not in PRECISIONS:
                one["milliseconds_step"] = 1000 * seconds[name][turn] / entrant.steps
                for precision in PRECISIONS:
                    one[f"ratio_to_{precision}"] = rate / rates[precision][turn]
            found.append(one)
        console.print(f"{name}: {max(rates[name]) / 1e12:.3g} TFLOP/s a device")
        rows.append(
            hf.report.results_row(
                name if name not in PRECISIONS else f"product/{name}",
                found,
                dataset="noise",
                model=entrant.model,
                scenario="utilisation",
                request="none",
                access=hf.Access(),
                seconds=None,
                factors={"flops": entrant.flops, "devices": entrant.devices}
                | {"sizes": sizes._asdict()},
                over="repeat",
            )
        )
    return rows


def product(side: int, dtype: Any, precision: Any) -> Entrant:
    """Multiply square matrices, on one device."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, y = (jax.random.normal(key, (side, side)).astype(dtype) for key in keys)
    y = y / jnp.sqrt(side).astype(dtype)  # So that products stay as large as x is.

    @jax.jit
    def run(x, y):
        def once(_, x):
            return jnp.matmul(x, y, precision=precision)

        return jax.lax.fori_loop(0, PRODUCTS, once, x)

    return Entrant(functools.partial(run, x, y), PRODUCTS * 2.0 * side**3)


def population(sizes: Sizes) -> Entrant:
    """Train a population of perceptrons on all devices, host and all."""
    classifier = hf.from_linen(hf.models.MLP((sizes.hidden,)))
    data, mesh = noise(16 * sizes.batch_size, (784,)), hf.sharding.make_mesh()
    run = functools.partial(
        hf.fit_population,
        jax.random.key(1),
        classifier,
        data,
        optax.adam(1e-3),
        sizes.population_steps,
        members=sizes.members,
        batch_size=sizes.batch_size,
        mesh=mesh,
        progress=False,
    )
    steps = sizes.members * sizes.population_steps
    flops = steps * step_flops(classifier, data, sizes.batch_size) / mesh.size
    model = f"mlp-{sizes.hidden}"
    return Entrant(run, flops, model, mesh.size, sizes.population_steps)


def resnet18(sizes: Sizes) -> Entrant:
    """Train a ResNet-18 on images like CIFAR-10's, on one device."""
    classifier = hf.from_linen(hf.models.ResNet18(sizes.widths), **MODES)
    data = noise(4 * sizes.batch_size, (32, 32, 3))

    def fit(key, data):
        optimizer = optax.sgd(1e-3, 0.9)
        return hf.fit(
            key,
            classifier,
            data,
            optimizer,
            sizes.steps,
            batch_size=sizes.batch_size,
        )

    run, _ = timing.compiled(fit, jax.random.key(2), data)
    flops = sizes.steps * step_flops(classifier, data, sizes.batch_size)
    return Entrant(run, flops, "resnet-18", steps=sizes.steps)


def noise(rows: int, shape: tuple[int, ...]) -> hf.Examples:
    """Make examples of ten classes in which there is nothing to learn."""
    key_x, key_y = jax.random.split(jax.random.key(0))
    return hf.Examples(
        jax.random.normal(key_x, (rows, *shape)),
        jax.random.randint(key_y, (rows,), 0, 10, jnp.int32),
        jnp.ones(rows, jnp.int32),
        jnp.arange(rows),
    )


def step_flops(classifier: hf.Classifier, data: hf.Examples, batch_size: int) -> float:
    """Count what the loss and its gradients cost at a training step, as XLA does.

    Before it optimises: neither what it computes twice nor what it finds out that
    nobody needs is counted otherwise than as it is written.
    """

    def loss(params, variables, x, y):
        variables = {**variables, "params": params}
        logits, _ = classifier.apply_train(jax.random.key(0), variables, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    batch = data.take(jnp.arange(batch_size))
    variables = jax.eval_shape(classifier.init, jax.random.key(0), batch.x)
    step = jax.jit(jax.value_and_grad(loss))
    lowered = step.lower(variables["params"], variables, batch.x, batch.y)
    counted = lowered.cost_analysis()
    if counted is None:
        raise RuntimeError("XLA does not count operations on this platform.")
    return counted["flops"]
