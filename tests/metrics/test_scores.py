"""Scores of a whole population in one program are those of its members."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from hyperforget_jax import evaluation, metrics, trees
from hyperforget_jax.requests import forget_classes, forget_labels, forget_rows

RANDOM = np.random.default_rng(0)


@pytest.fixture
def worlds(make_examples):
    train, test = make_examples(0, 120), make_examples(1, 80, first_id=1000)
    return {
        "class": (forget_classes(train, [2]), test),
        "rows": (forget_rows(train, np.arange(0, 40, 3)), test),
    }


@pytest.mark.parametrize(
    "kind", ["class", pytest.param("rows", marks=pytest.mark.slow)]
)
def test_a_population_is_judged_in_one_program(linear, make_variables, worlds, kind):
    request, test = worlds[kind]
    retrained = make_variables([10, 11, 12])
    data = metrics.evaluation_data(request, test)
    references = jax.vmap(lambda own: metrics.predict(linear, own, data))(retrained)
    stacked = make_variables(list(range(5)))
    of_one = functools.partial(
        metrics.scores, linear, data=data, references=references, batch_size=50
    )
    together = jax.jit(jax.vmap(of_one))(stacked)
    assert together.auc.shape == together.forget_train.js.shape == (5,)
    assert together.test_classes.accuracy.shape == (5, 4)
    for i in range(5):
        # Float32 sums in another order, in batches and by vmap.
        chex.assert_trees_all_close(
            trees.take(together, i),
            of_one(trees.take(stacked, i)),
            rtol=1e-5,
            atol=1e-6,
        )
        alone = evaluation.evaluate(
            linear, trees.take(stacked, i), request, test, retrained=retrained
        )
        for half in ("forget_train", "retain_train", "forget_test", "retain_test"):
            own = trees.take(getattr(together, half), i)
            side, split = half.split("_")
            if own.weight == 0:
                assert (kind, half) == ("rows", "forget_test")
                continue
            for value, name in (
                (own.accuracy, f"{side}_accuracy_{split}"),
                (own.loss, f"{side}_loss_{split}"),
                (own.js, f"js_to_oracle_{half}"),
                (own.kl, f"kl_to_oracle_{half}"),
                (own.l2, f"l2_to_oracle_{half}"),
            ):
                expected = alone.metrics[name]
                assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert together.test_accuracy[i] == pytest.approx(
            alone.metrics["accuracy_test"]
        )
        # A float32 tie broken otherwise moves half a pair of some hundreds.
        assert together.auc[i] == pytest.approx(alone.metrics["mia_auc"], abs=2e-3)


def test_a_model_that_diverged_is_counted_and_harms_no_other(
    linear, make_variables, worlds
):
    data = metrics.evaluation_data(*worlds["class"])
    stacked = make_variables([0, 1])
    of_one = jax.vmap(functools.partial(metrics.scores, linear, data=data))
    expected = of_one(stacked)
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), stacked)
    found = of_one(broken)
    chex.assert_trees_all_equal(trees.take(found, 0), trees.take(expected, 0))
    assert found.forget_train.non_finite.tolist() == [0, 30]
    assert found.retain_train.non_finite.tolist() == [0, 90]
    assert found.forget_train.js is None


def test_weightless_rows_may_hold_anything(linear, make_variables, worlds):
    request, test = worlds["class"]
    without = functools.partial(jnp.where, jnp.arange(80) < 5, 0)
    gone = test._replace(weight=without(test.weight))
    noisy = gone._replace(x=jnp.where(gone.weight[:, None] == 0, jnp.nan, gone.x))
    clean, other = (
        metrics.scores(
            linear, make_variables(0), metrics.evaluation_data(request, each)
        )
        for each in (gone, noisy)
    )
    chex.assert_trees_all_equal(clean, other)
    assert clean.forget_test.weight + clean.retain_test.weight == 75


@pytest.mark.parametrize("levels", [3, 1000])
def test_auc_equals_sklearn_with_masks_and_ties(levels):
    scores = RANDOM.integers(0, levels, (4, 150)).astype(np.float32)
    others = RANDOM.integers(0, levels, 90).astype(np.float32)
    weight, other_weight = RANDOM.integers(0, 3, 150), RANDOM.integers(0, 2, 90)
    noisy = np.where(weight[None] > 0, scores, np.nan)
    found = jax.jit(jax.vmap(metrics.auc, (0, None, None, None)))(
        noisy, np.where(other_weight > 0, others, np.nan), weight, other_weight
    )
    inside, outside = weight > 0, other_weight > 0
    labels = np.repeat([1, 0], [inside.sum(), outside.sum()])
    for own, got in zip(scores, found, strict=True):
        both = np.concatenate([own[inside], others[outside]])
        # A float32 mean of a hundred counts.
        expected = sklearn.metrics.roc_auc_score(labels, both)
        assert got == pytest.approx(expected, rel=1e-6)


def test_pairwise_distances_are_means_of_each_pair():
    models = RANDOM.normal(size=(3, 20, 4)).astype(np.float32)
    weight = jnp.asarray(RANDOM.integers(0, 3, 20))
    found = jax.jit(metrics.pairwise_distances, static_argnums=0)(
        metrics.jensen_shannon, models, models[:2], weight
    )
    assert found.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        expected = metrics.mean_distance(
            metrics.jensen_shannon, models[i], models[j][None], weight
        )
        assert found[i, j] == pytest.approx(float(expected), rel=1e-5, abs=1e-7)


def test_a_request_without_data_is_named(worlds):
    with pytest.raises(ValueError, match="carries no data.*hf.forget_classes"):
        metrics.evaluation_data(forget_labels([2], 4), worlds["class"][1])
