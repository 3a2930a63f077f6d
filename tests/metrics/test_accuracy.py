"""Accuracy and loss against scikit-learn."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import sklearn.metrics

from hyperforget_jax.metrics import accuracy, attack_success, class_scores, mean_loss

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(200, 5)).astype(np.float32)
Y = RANDOM.integers(0, 5, 200)
WEIGHT = RANDOM.integers(0, 4, 200)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


class AccuracyTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_accuracy_equals_sklearn_with_weights(self):
        expected = sklearn.metrics.accuracy_score(
            Y, LOGITS.argmax(-1), sample_weight=WEIGHT
        )
        got = self.variant(accuracy)(LOGITS, Y, jnp.asarray(WEIGHT))
        # A quotient of whole numbers: one rounding.
        np.testing.assert_allclose(got, expected, rtol=1e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_mean_loss_equals_sklearn_with_weights(self):
        probabilities = softmax(LOGITS.astype(np.float64))
        expected = sklearn.metrics.log_loss(
            Y, probabilities, sample_weight=WEIGHT, labels=range(5)
        )
        got = self.variant(mean_loss)(LOGITS, Y, jnp.asarray(WEIGHT))
        # A float32 mean of 200 terms of order one.
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_class_scores_equals_sklearn_recall(self):
        expected = sklearn.metrics.recall_score(
            Y, LOGITS.argmax(-1), sample_weight=WEIGHT, average=None
        )
        got = self.variant(class_scores)(LOGITS, Y, jnp.asarray(WEIGHT))
        np.testing.assert_allclose(got.accuracy, expected, rtol=1e-7)
        np.testing.assert_array_equal(got.weight, np.bincount(Y, WEIGHT))

    @chex.variants(with_jit=True, without_jit=True)
    def test_absent_classes_count_zero_and_are_not_nan(self):
        weight = jnp.asarray(np.where(Y == 2, 0, WEIGHT))
        got = self.variant(class_scores)(LOGITS, Y, weight)
        assert got.weight[2] == 0
        assert got.accuracy[2] == 0
        assert np.isfinite(got.accuracy).all()

    @chex.variants(with_jit=True, without_jit=True)
    def test_no_examples_give_zero_and_not_nan(self):
        nothing = jnp.zeros(200, jnp.int32)
        assert self.variant(accuracy)(LOGITS, Y, nothing) == 0
        assert self.variant(mean_loss)(LOGITS, Y, nothing) == 0

    @chex.variants(with_jit=True, without_jit=True)
    def test_weight_is_multiplicity(self):
        repeated = np.repeat(np.arange(200), WEIGHT)
        ones = jnp.ones(repeated.size, jnp.int32)
        for metric in (accuracy, mean_loss):
            weighted = self.variant(metric)(LOGITS, Y, jnp.asarray(WEIGHT))
            copied = self.variant(metric)(LOGITS[repeated], Y[repeated], ones)
            # Float32 sums of the same terms, grouped otherwise.
            np.testing.assert_allclose(weighted, copied, rtol=1e-6)


def test_attack_success_counts_the_rows_of_other_classes():
    # Called up: rows 0, 1 and 3; row 0 is of the class, and row 3 weighs twice.
    logits = jnp.eye(3)[jnp.array([2, 2, 0, 2])]
    y, weight = jnp.array([2, 0, 0, 1]), jnp.array([1, 1, 1, 2])
    found = jax.jit(jax.vmap(attack_success, (None, None, None, 0)))(
        logits, y, weight, jnp.array([2, 1])
    )
    np.testing.assert_allclose(found, [3 / 4, 0])
    assert attack_success(logits, y, jnp.zeros(4, int), 2) == 0
