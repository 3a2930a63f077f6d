"""A small zoo and a small hypernetwork, made once."""

import functools

import jax
import jax.numpy as jnp
import optax

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import toys

# One object: programs are compiled and kept by the classifier's functions.
CLASSIFIER = toys.perceptron()
MASKS = [[0], [1], [2], [3], [0, 1]]
START = hypernet.Training(optax.adam(3e-2), 40, 16)
FORGET = hypernet.Training(optax.adam(2e-2), 64, 16)


def probe() -> hf.Examples:
    """Other points of the same clusters, under other names."""
    both = toys.points(80)
    return both.take(jnp.arange(40, 80))


def train() -> hf.Examples:
    return toys.points(80).take(jnp.arange(40))


def make_anchored(**changes) -> hypernet.Zoo:
    options = dict(
        masks=MASKS,
        starts=6,
        start=START,
        forget=FORGET,
        checkpoint_steps=(8, 16),
        oracles=2,
        progress=False,
    )
    return hypernet.anchored_zoo(
        jax.random.key(0), CLASSIFIER, train(), probe(), **{**options, **changes}
    )


def make_free(**changes) -> hypernet.Zoo:
    options = dict(masks=MASKS, runs=4, training=START, progress=False)
    return hypernet.free_zoo(
        jax.random.key(1), CLASSIFIER, train(), probe(), **{**options, **changes}
    )


@functools.cache
def zoo(mode: str) -> hypernet.Zoo:
    return {"anchored": make_anchored, "free": make_free}[mode]()


COURSE = hypernet.Course(steps=30, batch_size=8, functional_rows=8)


def fit(mode="anchored", course=COURSE, recipe=None, segment_steps=10, **options):
    recipe = recipe or hypernet.Recipe(mode=mode, width=16, heads=2, depth=1)
    network = hypernet.build(CLASSIFIER, train().x, recipe)
    return hypernet.fit_hypernetwork(
        jax.random.key(2),
        network,
        CLASSIFIER,
        zoo(mode),
        train(),
        course,
        segment_steps=segment_steps,
        progress=False,
        **options,
    )


@functools.cache
def fitted(mode: str):
    return fit(mode)
