"""What the tests of projected-gradient unlearning unlearn from."""

import functools

import chex
import flax.linen as nn
import jax
import optax

import hyperforget_jax as hf
from tests import toys

KEY = jax.random.key(3)
OPTIMIZERS = ("normalised", "sgd", "adam", "coordinates")


def _trained(classifier, data):
    fit = jax.jit(
        lambda key: hf.fit(key, classifier, data, optax.adam(3e-2), 40, batch_size=8)
    )
    return fit(jax.random.key(0))


@functools.cache
def world():
    data, classifier = toys.points(num_rows=32), toys.perceptron()
    return data, classifier, _trained(classifier, data)


class _Wide(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(16)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(x))
        return nn.Dense(toys.NUM_CLASSES)(x)


@functools.cache
def wide():
    """More inputs than rows in every layer: the data leave directions free."""
    data = toys.points(num_rows=8, features=12)
    classifier = hf.from_linen(_Wide(), train={"train": True}, eval={"train": False})
    return data, classifier, _trained(classifier, data)


@functools.cache
def begun(where, held_out=False, **options):
    data, classifier, variables = where()
    if held_out:
        options["probe"] = toys.points(num_rows=32, seed=8, first_id=100)
    return jax.jit(hf.pgu(classifier, **options).init)(KEY, variables, data)


# Rounds of one step each, so that there is something between the first and the last.
# Numbers are arguments: one compilation serves them all.
STEPWISE = {"rounds": 12, "round_steps": 1, "free_columns": False}
NUMBERS = {
    "threshold": 0.1,
    "learning_rate": 1.0,
    "end_rate": 1.0,
    "forget_margin": -10.0,
}


@functools.cache
def program(where, **settings):
    """Takes fields of the configuration, and how Gram matrices are measured."""
    _, classifier, _ = where()
    measured = {n: settings.pop(n) for n in ("augment", "epochs") if n in settings}

    def unlearn(state, request, numbers):
        unlearner = hf.pgu(
            classifier, hf.PGUConfig(**STEPWISE | settings | numbers), **measured
        )
        return unlearner.unlearn(KEY, state, request)

    return jax.jit(unlearn)


def answer(where, state, request, numbers=None, **settings):
    """``(state, info)``."""
    return program(where, **settings)(state, request, NUMBERS | (numbers or {}))


def same(first, second):
    """By a bit."""
    chex.assert_trees_all_equal(first, second)
