"""Access records hold at the optimisation level that users run, too."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import chex, jax, jax.numpy as jnp, numpy as np, optax
import hyperforget_jax as hf
from tests import toys
from tests.methods.table import ENSEMBLES, GRAPHS, METHODS, VARIANTS

data, classifier = toys.points(), toys.perceptron()
variables = classifier.init(jax.random.key(0), data.x)
request = hf.forget_classes(data, [2])
covered = np.asarray(request.covers(data))
for name, method in {**METHODS, **GRAPHS, **ENSEMBLES}.items():
    if name in VARIANTS:  # They compile for long.
        continue
    unlearner = method(classifier)
    if {"forget", "retain"} <= unlearner.access.unlearn:
        continue  # It promises nothing of either half.
    unlearn = jax.jit(unlearner.unlearn)
    state = unlearner.init(jax.random.key(1), variables, data)
    expected = unlearn(jax.random.key(2), state, request)
    for half, rows in (("forget", covered), ("retain", ~covered)):
        if half not in unlearner.access.unlearn:
            rows = jnp.asarray(np.flatnonzero(rows))
            noisy = toys.scribble(jax.random.key(3), data, rows)
            other = unlearn(jax.random.key(2), state, request._replace(data=noisy))
            chex.assert_trees_all_equal(other, expected)
            print("held", name, half)
"""


@pytest.mark.slow
def test_what_is_not_read_does_not_matter_at_the_default_optimisation():
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "held retrain forget" in run.stdout and "held ssd retain" in run.stdout
