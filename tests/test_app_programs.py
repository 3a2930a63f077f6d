"""What ``hyperforget app`` computes: for all seeds at once what is the same for all."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from hyperforget_jax.app import programs


class State(NamedTuple):
    variables: Any
    summed: Any


def test_what_seeds_share_is_held_once():
    def init(key, variables, data):
        return State(variables, data.sum())

    def unlearn(key, state, request):
        drawn = request * jax.random.uniform(key)
        return state._replace(variables=state.variables * state.summed + drawn), ()

    unlearner = hf.Unlearner(init, unlearn, hf.Access())
    keys = jax.random.split(jax.random.key(0), 3)
    variables, data = jnp.arange(6.0).reshape(3, 2), jnp.ones(4)
    states, axes = programs.prepare(unlearner, keys, variables, data)
    assert axes == (0, None) and states.summed.shape == ()
    found = programs.unlearn(unlearner, axes, keys, states, jnp.float32(2))
    drawn = jax.vmap(jax.random.uniform)(keys)[:, None]
    np.testing.assert_allclose(found, 4 * variables + 2 * drawn, rtol=1e-6)
