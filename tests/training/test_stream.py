"""Training on batches that are fetched: a plain loop, gone on with where it stopped."""

import chex
import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests import toys

CLASSIFIER, ADAM, DATA = toys.perceptron(), optax.adam(1e-2), toys.points()


def batches(step):
    rows = np.random.default_rng(step).choice(DATA.y.size, 16, replace=False)
    return DATA.take(rows)


def train(batches=batches, steps=7, **options):
    return hf.fit_batches(
        jax.random.key(3),
        CLASSIFIER,
        batches,
        options.pop("optimizer", ADAM),
        steps,
        **{"segment_steps": 2, "progress": False} | options,
    )


def test_it_is_the_loop_that_people_write():
    start = CLASSIFIER.init(jax.random.key(0), DATA.x)
    params, state = start["params"], ADAM.init(start["params"])

    @jax.jit
    def step(params, state, batch):
        def loss(params):
            logits = CLASSIFIER.apply({"params": params}, batch.x)
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, batch.y
            ).mean()

        updates, state = ADAM.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    for number in range(7):
        params, state = step(params, state, batches(number))
    # The mean of a batch in another order.
    chex.assert_trees_all_close(train(start=start)["params"], params, atol=1e-5)


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    asked = []

    def until(last):
        def fetch(step):
            asked.append(step)
            if step == last:
                raise KeyboardInterrupt
            return batches(step)

        return fetch

    for last in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            train(until(last), directory=tmp_path / "run")
    ended = train(until(None), directory=tmp_path / "run")
    # The first batch tells whether these are the same.
    assert asked == [0, 0, 1, 2, 3, 0, 2, 3, 4, 5, 6, 0, 6]
    chex.assert_trees_all_equal(ended, train())
    chex.assert_trees_all_equal(ended, train(directory=tmp_path / "run"))
    for options in (
        dict(batches=lambda step: batches(step + 1)),
        dict(optimizer=optax.sgd(0.1)),
        dict(steps=8),
    ):
        with pytest.raises(ValueError, match="directory"):
            train(**options, directory=tmp_path / "run")


def test_a_batch_of_grain_is_known_by_its_step():
    grain = pytest.importorskip("grain")
    rows = grain.MapDataset.range(DATA.y.size).seed(5).shuffle().repeat().batch(16)

    def fetch(step):
        return DATA.take(np.asarray(rows[step]))

    np.testing.assert_array_equal(rows[4], rows[4])
    # Every epoch has every row in another order.
    per_epoch = DATA.y.size // 16
    epochs = [
        np.concatenate([rows[e * per_epoch + i] for i in range(per_epoch)])
        for e in range(2)
    ]
    assert len(set(epochs[0].tolist())) == per_epoch * 16
    assert (epochs[0] != epochs[1]).any()
    variables = train(fetch, steps=60)
    right = CLASSIFIER.apply(variables, DATA.x).argmax(-1) == DATA.y
    before = CLASSIFIER.apply(train(fetch, steps=1), DATA.x).argmax(-1) == DATA.y
    assert right.mean() > before.mean() + 0.2


def test_what_cannot_be_trained_on_is_named():
    with pytest.raises(TypeError, match="batches"):
        train(DATA)
    with pytest.raises(TypeError, match="Examples"):
        train(lambda step: (DATA.x, DATA.y))
    with pytest.raises(ValueError, match=r"batches\(3\) must have the shapes"):
        train(lambda step: DATA.take(np.arange(16 - (step == 3))))
    wrong = DATA.take(np.arange(16))._replace(y=np.full(16, 99, np.int32))
    with pytest.raises(ValueError, match=r"batches\(2\)\.y"):
        train(lambda step: wrong if step == 2 else batches(step))
    with pytest.raises(ValueError, match="segment_steps"):
        train(segment_steps=0)
    start = CLASSIFIER.init(jax.random.key(0), DATA.x)
    start = jax.tree.map(lambda leaf: leaf * np.inf, start)
    with pytest.raises(hf.NonFiniteLossError, match="step 0"):
        train(start=start)
