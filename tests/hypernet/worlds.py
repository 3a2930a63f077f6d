"""A small zoo and a small hypernetwork, made once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import toys

CLASSIFIER = toys.perceptron()
MASKS = [[0], [1], [2], [3], [0, 1]]
START = hypernet.FitConfig(optax.adam(3e-2), 40, 16)
FORGET = hypernet.FitConfig(optax.adam(2e-2), 64, 16)


def probe() -> hf.Examples:
    """Other points of the same clusters, under other names."""
    both = toys.points(80)
    return both.take(jnp.arange(40, 80))


def train() -> hf.Examples:
    return toys.points(80).take(jnp.arange(40))


def make_edit(**changes) -> hypernet.Zoo:
    options = dict(
        masks=MASKS,
        starts=6,
        start=START,
        forget=FORGET,
        checkpoint_steps=(8, 16),
        teachers=2,
        progress=False,
    )
    return hypernet.edit_zoo(
        jax.random.key(0), CLASSIFIER, train(), probe(), **{**options, **changes}
    )


def make_generate(**changes) -> hypernet.Zoo:
    options = dict(masks=MASKS, runs=4, config=START, progress=False)
    return hypernet.generate_zoo(
        jax.random.key(1), CLASSIFIER, train(), probe(), **{**options, **changes}
    )


def drawn_zoo(classifier, masks=MASKS, starts=3) -> hypernet.Zoo:
    """An edit zoo that was drawn and not trained: a mask is a change of its own."""

    @jax.jit
    def draw(key):
        key_start, key_change = jax.random.split(key)
        keys = jax.random.split(key_start, starts)
        begun = jax.vmap(classifier.init, (0, None))(keys, train().x)
        begun = optax.tree.add(
            begun, optax.tree.random_like(key_start, begun, jax.random.uniform)
        )
        change = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf[0], (len(masks), *leaf.shape[1:])),
            begun["params"],
        )
        return begun, optax.tree.random_like(key_change, change)

    begun, changes = jax.tree.map(np.asarray, draw(jax.random.key(5)))
    start = np.repeat(np.arange(starts), len(masks))
    mask = np.tile(np.arange(len(masks)), starts)
    gone = np.array([[label in own for label in range(4)] for own in masks])[mask]
    loss = np.where(gone, 5.0, 0.1).astype(np.float32)[:, None]
    ends = jax.tree.map(
        lambda own, change: (own[start] + change[mask])[:, None],
        begun["params"],
        changes,
    )
    return hypernet.Zoo(
        {"params": ends},
        gone,
        start.astype(np.int32),
        loss,
        1 - gone[:, None].astype(np.float32),
        begun,
        np.full((starts, 4), 0.1, np.float32),
        np.array([4]),
    )


@functools.cache
def zoo(mode: str) -> hypernet.Zoo:
    return {"edit": make_edit, "generate": make_generate}[mode]()


CONFIG = hypernet.TrainConfig(steps=30, batch_size=8, functional_rows=8)


def fit(mode="edit", train_config=CONFIG, config=None, segment_steps=10, **options):
    """A hypernetwork, its parameters and the losses of its training."""
    config = config or hypernet.HypernetConfig(mode=mode, width=16, heads=2, depth=1)
    network = hypernet.build(CLASSIFIER, train().x, config)
    params, trace = hypernet.fit_hypernetwork(
        jax.random.key(2),
        network,
        CLASSIFIER,
        zoo(mode),
        train(),
        train_config,
        segment_steps=segment_steps,
        progress=False,
        **options,
    )
    return network, params, trace


@functools.cache
def fitted(mode: str):
    return fit(mode)
