"""What hypernetworks are for, on real data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import hypernet


@pytest.mark.slow
def test_models_never_seen_forget_one_class_after_the_other():
    splits = hf.data.load("digits")
    classifier = hf.from_linen(hf.models.MLP((16,)))
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-2, 300), weight_decay=1.0)
    keys = jax.random.split(jax.random.key(0), 4)
    zoo = hypernet.edit_zoo(
        keys[0],
        classifier,
        splits.train,
        splits.probe,
        masks=[[label] for label in range(10)],
        starts=48,
        start=hypernet.FitConfig(optimizer, 300, 64),
        forget=hypernet.FitConfig(optax.adam(3e-3), 120, 64),
        checkpoint_steps=(8, 24),
        progress=False,
    )
    config = hypernet.HypernetConfig(width=48, mixer="mean")
    network = hypernet.build(classifier, splits.train.x, config)
    params, _ = hypernet.fit_hypernetwork(
        keys[1],
        network,
        classifier,
        zoo,
        splits.train,
        hypernet.TrainConfig(steps=600, batch_size=32),
        progress=False,
    )
    models = hf.fit_population(
        keys[2],
        classifier,
        splits.train,
        optimizer,
        300,
        members=8,
        batch_size=64,
        progress=False,
    )
    unlearner = hf.dihyfo(classifier, network, params)

    def accuracies(key, variables, classes):
        """Before, and after each of two requests, ``[3, 10]``."""
        state = unlearner.init(key, variables, splits.train)
        found = [hypernet.class_scores(classifier, state.variables, splits.test)]
        for number in range(2):
            request = asked._replace(classes=jnp.arange(10) == classes[number])
            state, _ = unlearner.unlearn(
                jax.random.fold_in(key, number), state, request
            )
            found.append(
                hypernet.class_scores(classifier, state.variables, splits.test)
            )
        return jnp.stack([scores.accuracy for scores in found])

    asked = hf.forget_labels([0], num_classes=10)
    classes = jnp.array(
        [[0, 1], [2, 3], [5, 4], [9, 7], [8, 6], [3, 8], [1, 9], [6, 0]]
    )
    found = jax.jit(jax.vmap(accuracies))(
        jax.random.split(keys[3], 8), models.variables, classes
    )
    start, one, two = np.moveaxis(np.asarray(found), 1, 0)
    gone = np.eye(10, dtype=bool)[np.asarray(classes)]
    first, both = gone[:, 0], gone.any(axis=1)
    assert start.mean() > 0.95
    # Means over eight models and as many pairs of classes.
    assert one[first].mean() <= 0.02
    # A network that was shown no sums of changes leaves twice as much.
    assert two[both].mean() <= 0.05
    assert one[~both].mean() >= start[~both].mean() - 0.02
    assert two[~both].mean() >= start[~both].mean() - 0.04
