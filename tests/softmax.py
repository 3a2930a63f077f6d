"""A classifier small enough to be worked out by hand: softmax regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperforget_jax.base import Classifier, Examples

NUM_FEATURES, NUM_CLASSES = 6, 4


def _init(key, x):
    weight = 0.1 * jax.random.normal(key, (x.shape[-1], NUM_CLASSES))
    return {"params": {"weight": weight, "bias": jnp.zeros(NUM_CLASSES)}}


def _apply(variables, x):
    params = variables["params"]
    logits = jnp.dot(x, params["weight"], precision="highest") + params["bias"][None]
    if "output_mask" in variables:
        logits = jnp.where(variables["output_mask"][None], -1e9, logits)
    return logits


def _apply_train(key, variables, x):
    del key  # Nothing is random.
    return _apply(variables, x), variables


@pytest.fixture(scope="session")
def linear() -> Classifier:
    """Softmax regression, which honours an output mask."""
    return Classifier(_init, _apply, _apply_train, description="softmax regression")


@pytest.fixture(scope="session")
def make_variables(linear):
    """``seed -> variables``, or stacked variables for a list of seeds."""

    def make(seeds):
        x = jnp.zeros((1, NUM_FEATURES))
        if isinstance(seeds, int):
            return linear.init(jax.random.key(seeds), x)
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return jax.vmap(linear.init, (0, None))(keys, x)

    return make


@pytest.fixture(scope="session")
def make_examples():
    """``(seed, count, first id) -> Examples``: four noisy clusters in turn."""

    def make(seed, count, first_id=0):
        random = np.random.default_rng(seed)
        y = np.arange(count) % NUM_CLASSES
        centres = 2 * np.eye(NUM_CLASSES, NUM_FEATURES)
        x = centres[y] + random.normal(size=(count, NUM_FEATURES))
        return Examples(
            jnp.asarray(x, jnp.float32),
            jnp.asarray(y, jnp.int32),
            jnp.ones(count, jnp.int32),
            first_id + jnp.arange(count, dtype=jnp.int32),
        )

    return make
