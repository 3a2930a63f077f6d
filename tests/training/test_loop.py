"""The minibatch loop against a plain Python loop, and what it does when it fails."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.training import FitConfig, loop
from hyperforget_jax.training.fit import training_loss
from hyperforget_jax.training.minibatches import epoch_order
from tests import toys


def python_loop(key, classifier, variables, data, optimizer, steps, batch_size):
    """The same draws, taken one by one, with nothing but optax and the definition."""
    key_draw, key_step = jax.random.split(key)
    length = -(-len(data.y) // batch_size)
    opt_state, losses = optimizer.init(variables["params"]), []
    for step in range(steps):
        epoch, within = divmod(step, length)
        key_epoch = jax.random.fold_in(jax.random.fold_in(key_draw, 0), epoch)
        rows = epoch_order(key_epoch, data.weight, length, batch_size)[0][within]

        def loss(params, rows=rows, step=step, variables=variables):
            logits, new = classifier.apply_train(
                jax.random.fold_in(key_step, step),
                {**variables, "params": params},
                data.x[rows],
            )
            values = optax.softmax_cross_entropy_with_integer_labels(
                logits, data.y[rows]
            )
            return jnp.mean(values), new

        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(
            variables["params"]
        )
        updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        variables = {**new, "params": params}
        losses.append(value)
    return variables, jnp.stack(losses)


class Loop(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_a_python_loop(self):
        data = toys.points().without(jnp.array([0, 5, 6]))
        classifier = toys.normalised()
        variables = classifier.init(jax.random.key(1), data.x)
        # Not Adam: the bias ahead of BatchNorm has a zero gradient, whose rounding
        # errors Adam would blow up to full steps.
        optimizer = optax.sgd(0.05, momentum=0.9)

        def run(key, variables, data):
            config = FitConfig(optimizer, 8, 16)
            return config.run(key, training_loss(classifier), variables, (data,))

        got, info = self.variant(run)(jax.random.key(2), variables, data)
        expected, losses = python_loop(
            jax.random.key(2), classifier, variables, data, optimizer, 8, 16
        )
        # Float32 sums in another order.
        chex.assert_trees_all_close(got, expected, atol=1e-5)
        chex.assert_trees_all_close(info.loss, losses, atol=1e-5)
        assert info.failed_at == -1


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_interrupted_training_takes_the_same_steps(cut):
    data, classifier = toys.points(), toys.perceptron()
    variables = classifier.init(jax.random.key(1), data.x)
    optimizer = optax.sgd(0.1, momentum=0.9)

    def go(state, first, steps):
        return loop.run_steps(
            jax.random.key(5),
            training_loss(classifier),
            state,
            (data,),
            optimizer,
            steps=steps,
            batch_size=16,
            first_step=first,
        )

    initial = loop.init(variables, optimizer)
    whole, losses = go(initial, 0, 9)
    half, first_losses = go(initial, 0, cut)
    rest, last_losses = go(half, jnp.int32(cut), 9 - cut)
    chex.assert_trees_all_close(rest, whole, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(
        jnp.concatenate([first_losses, last_losses]), losses, rtol=1e-5
    )


def test_weightless_rows_do_not_matter_by_a_bit():
    data = toys.points()
    gone = jnp.array([1, 4, 33])
    classifier = toys.normalised()

    @jax.jit
    def fit(data):
        return hf.fit(
            jax.random.key(0), classifier, data, optax.adam(1e-2), 12, batch_size=8
        )

    scribbled = toys.scribble(jax.random.key(9), data, gone)
    chex.assert_trees_all_equal(fit(data.without(gone)), fit(scribbled.without(gone)))
    different = fit(data)["params"]["Dense_0"]["kernel"]
    assert (different != fit(data.without(gone))["params"]["Dense_0"]["kernel"]).any()


def test_multiplicities_train_as_repeated_rows():
    data = toys.points(8)
    classifier = toys.softmax_regression()
    weight = jnp.array([1, 0, 3, 1, 2, 1, 0, 1])
    repeated = np.repeat(np.arange(8), weight)
    rows = data.take(jnp.asarray(repeated))
    # A batch that holds the whole epoch: order within it does not matter.
    options = dict(optimizer=optax.sgd(0.1), steps=1, batch_size=9)
    start = classifier.init(jax.random.key(0), data.x)
    key = jax.random.key(1)
    weighted = hf.fit(
        key, classifier, data._replace(weight=weight), start=start, **options
    )
    plain = hf.fit(
        key, classifier, rows._replace(id=jnp.arange(9)), start=start, **options
    )
    chex.assert_trees_all_close(weighted, plain, atol=1e-6)


def test_where_nothing_counts_no_row_is_read():
    data, classifier = toys.points(), toys.normalised()
    variables = classifier.init(jax.random.key(1), data.x)
    gone = data._replace(weight=jnp.zeros_like(data.weight))
    nan = gone._replace(x=jnp.full_like(data.x, jnp.nan))
    config, loss_fn = FitConfig(optax.sgd(0.05), 3, 8), training_loss(classifier)
    answers = [
        config.run(jax.random.key(2), loss_fn, variables, (examples,))
        for examples in (gone, nan)
    ]
    chex.assert_trees_all_equal(*answers)
    chex.assert_tree_all_finite(answers[1])


def test_nothing_active_moves_nothing():
    data = toys.points()
    data = data._replace(weight=jnp.zeros_like(data.weight))
    classifier = toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    config, loss_fn = FitConfig(optax.adam(0.1), 3, 8), training_loss(classifier)
    after, info = config.run(jax.random.key(1), loss_fn, variables, (data,))
    chex.assert_trees_all_equal(after, variables)
    np.testing.assert_array_equal(info.loss, 0)


def test_non_finite_loss_stops_says_where_and_keeps_the_last_good():
    data, classifier = toys.points(), toys.perceptron()

    def schedule(step):
        return jnp.where(step < 5, 0.1, jnp.inf)

    with pytest.raises(hf.NonFiniteLossError, match="at step 5") as caught:
        hf.fit(jax.random.key(0), classifier, data, optax.sgd(schedule), 20)
    good = hf.fit(jax.random.key(0), classifier, data, optax.sgd(0.1), 5)
    assert caught.value.step == 5
    chex.assert_trees_all_close(caught.value.variables, good, atol=1e-6)


def test_one_trace_serves_every_weighting():
    data, classifier = toys.points(), toys.perceptron()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def fit(key, data):
        return hf.fit(key, classifier, data, optax.adam(1e-2), 3)

    for seed in range(3):
        fit(jax.random.key(seed), data.without(jnp.array([seed])))


def augmented(data):
    """The (id, epoch) of every row that six steps of ten augment."""
    seen = []

    def augment(x, id, epoch):
        jax.debug.callback(
            lambda i, p: seen.extend(zip(i.tolist(), p.tolist(), strict=True)),
            id,
            epoch,
        )
        return x

    hf.fit(
        jax.random.key(0),
        toys.softmax_regression(),
        data,
        optax.sgd(0.1),
        6,
        batch_size=10,
        augment=augment,
    )
    jax.effects_barrier()
    return seen


def test_augmentation_sees_ids_and_epochs():
    # Three epochs of two minibatches: every example once in each.
    expected = [(i, p) for i in range(20) for p in range(3)]
    assert sorted(augmented(toys.points(20))) == expected


def test_few_active_rows_are_never_augmented_twice_the_same():
    seen = augmented(toys.points(20).without(jnp.arange(3, 20)))
    assert len(set(seen)) == len(seen) == 60


@pytest.mark.parametrize(
    "change, error, message",
    [
        (
            {"x": jnp.ones((40, 7))},
            ValueError,
            r"and inputs of shape \(1, 7\)",
        ),
        ({"x": jnp.ones((40, 6), jnp.uint8)}, TypeError, "must be floating point"),
        ({"y": jnp.full(40, 4)}, ValueError, r"labels in \[0, 4\), got 4 at row 0"),
        ({"y": jnp.zeros(39, int)}, ValueError, r"data.y must have shape \(40,\)"),
        ({"weight": -jnp.ones(40, int)}, ValueError, "must be non-negative, got -1"),
        ({"weight": jnp.full(40, jnp.nan)}, ValueError, "has NaN at row 0"),
        ({"weight": jnp.ones(3, int)}, ValueError, r"data.weight must have shape"),
        ({"weight": jnp.zeros(40, int)}, ValueError, "zero everywhere"),
    ],
)
def test_bad_data_is_refused_by_name(change, error, message):
    data, classifier = toys.points(), toys.perceptron()
    start = classifier.init(jax.random.key(0), data.x)
    with pytest.raises(error, match=message):
        hf.fit(
            jax.random.key(0),
            classifier,
            data._replace(**change),
            optax.adam(1e-3),
            3,
            start=start,
        )
