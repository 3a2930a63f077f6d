"""The overwrite of normalisation statistics leaves nothing of the old ones."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from tests import toys


def test_old_statistics_leave_no_bit_and_params_stay():
    data, classifier = toys.points(), toys.normalised()
    variables = classifier.init(jax.random.key(0), data.x)
    other = jax.tree.map(lambda leaf: leaf + 7, variables["batch_stats"])
    refreshed = [
        hf.refresh_statistics(
            jax.random.key(1), classifier, start, data, steps=40, batch_size=40
        )
        for start in (variables, {**variables, "batch_stats": other})
    ]
    chex.assert_trees_all_equal(*refreshed)
    chex.assert_trees_all_equal(refreshed[0]["params"], variables["params"])
    # Batches of the whole table: the running mean tends to the mean of the table.
    dense = variables["params"]["Dense_0"]
    hidden = np.asarray(data.x) @ np.asarray(dense["kernel"]) + np.asarray(
        dense["bias"]
    )
    # A momentum of 0.8 forgets its start by 0.8 ** 40 = 1e-4.
    np.testing.assert_allclose(
        refreshed[0]["batch_stats"]["BatchNorm_0"]["mean"], hidden.mean(0), atol=1e-3
    )


def test_forgotten_rows_are_overwritten():
    data, classifier = toys.points(), toys.normalised()
    variables = classifier.init(jax.random.key(0), data.x)
    gone = jnp.array([2, 3, 11])
    noisy = toys.scribble(jax.random.key(2), data, gone)
    chex.assert_trees_all_equal(
        *[
            hf.refresh_statistics(
                jax.random.key(1), classifier, variables, d.without(gone), steps=5
            )
            for d in (data, noisy)
        ]
    )
