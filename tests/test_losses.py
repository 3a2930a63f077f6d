"""Losses against float64 closed forms, also where float32 probabilities give up."""

import chex
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.test_util import check_grads

from hyperforget_jax.losses import cross_entropy, margin, unlikelihood, weighted_mean

RANDOM = np.random.default_rng(0)
LOGITS = (3 * RANDOM.normal(size=(16, 4))).astype(np.float32)
LABELS = RANDOM.integers(0, 4, 16).astype(np.int32)

# The label leads by 1 to 80 nats. From 17 on, float32 says that its probability is 1.
LEADS = np.linspace(1, 80, 16, dtype=np.float32)
SURE = np.stack([0 * LEADS, -LEADS, -LEADS - 1, -LEADS - 2], axis=1)
FIRST, SECOND = np.zeros(16, np.int32), np.ones(16, np.int32)
# The loss is about exp(-lead): its relative error is the absolute error of the lead,
# which is at most a few units in the last place of 80 (7.6e-6).
NEAR_ONE = 2e-5

logit_rows = hypothesis.extra.numpy.arrays(
    np.float32, (1, 4), elements=st.floats(-30, 30, width=32)
)


def split_softmax(logits, y):
    """In float64: p of all classes, p of the label, and its complement, all precise."""
    p = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    is_y = np.arange(p.shape[-1]) == np.asarray(y)[:, None]
    return p, is_y, np.sum(p, -1, where=is_y), np.sum(p, -1, where=~is_y)


def minus_log_of_complement(p, q):
    """``-log(1 - q)`` with ``p + q = 1``, from whichever of the two is precise."""
    return np.where(q < 0.5, -np.log1p(-q), -np.log(p))


class LossesTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_margin_is_the_log_odds_of_the_label(self):
        _, _, p, q = split_softmax(LOGITS, LABELS)
        # Sums of four float32 terms of at most 10.
        np.testing.assert_allclose(
            self.variant(margin)(LOGITS, LABELS), np.log(p / q), atol=5e-6
        )

    @chex.variants(with_jit=True, without_jit=True)
    def test_cross_entropy_equals_scipy(self):
        expected = -scipy.special.log_softmax(LOGITS.astype(np.float64), axis=-1)
        got = self.variant(cross_entropy)(LOGITS, LABELS)
        chex.assert_shape(got, (16,))
        np.testing.assert_allclose(got, expected[np.arange(16), LABELS], atol=5e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_unlikelihood_is_minus_log_of_what_the_others_have(self):
        _, _, _, q = split_softmax(LOGITS, LABELS)
        got = self.variant(unlikelihood)(LOGITS, LABELS)
        np.testing.assert_allclose(got, -np.log(q), atol=5e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_relative_precision_where_the_label_is_all_but_certain(self):
        _, _, p, q = split_softmax(SURE, FIRST)
        got = self.variant(cross_entropy)(SURE, FIRST)
        np.testing.assert_allclose(got, minus_log_of_complement(p, q), rtol=NEAR_ONE)
        # A log-softmax has no digit left here.
        assert (jax.nn.log_softmax(SURE)[LEADS > 20, 0] == 0).all()

    @chex.variants(with_jit=True, without_jit=True)
    def test_relative_precision_where_the_label_is_all_but_out(self):
        _, _, p, q = split_softmax(SURE, SECOND)
        got = self.variant(unlikelihood)(SURE, SECOND)
        np.testing.assert_allclose(got, minus_log_of_complement(q, p), rtol=NEAR_ONE)

    @chex.variants(with_jit=True, without_jit=True)
    def test_huge_logits(self):
        logits = jnp.array([[1e4, -1e4, 0.0, 0.0], [1e4, -1e4, 0.0, 0.0]])
        labels = jnp.array([0, 1])
        for loss, expected in (
            (margin, [1e4 - np.log(2), -2e4]),
            (cross_entropy, [0, 2e4]),
            (unlikelihood, [1e4 - np.log(2), 0]),
        ):
            got = self.variant(loss)(logits, labels)
            # One unit in the last place of 1e4 is 1e-3, which is 1e-7 of it.
            np.testing.assert_allclose(got, expected, rtol=2e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradients_at_huge_logits(self):
        logits = jnp.array([[1e4, -1e4, 0.0, 0.0], [1e4, -1e4, 0.0, 0.0]])
        labels = jnp.array([0, 1])
        for loss, expected in (
            (cross_entropy, [[0, 0, 0, 0], [1, -1, 0, 0]]),
            (unlikelihood, [[1, 0, -0.5, -0.5], [0, 0, 0, 0]]),
        ):
            got = self.variant(gradient(loss))(logits, labels)
            # Halves come out of one exponential and one division.
            np.testing.assert_allclose(got, expected, atol=2e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_infinite_logits_are_limits(self):
        """Of the label, then of others, at infinity; losses of log-odds by hand."""
        inf, one = np.inf, np.log1p(np.e)
        logits = [
            [0, -inf, -inf],  # The label alone is possible.
            [inf, 0, 1],  # It is certain.
            [-inf, 0, 1],  # It is out.
            [0, inf, 1],  # Another is certain.
            [0, inf, inf],
            [-inf, inf, -inf],
            [0, -inf, 1],  # One other is out: two classes.
        ]
        labels = np.zeros(7, np.int32)
        margins = [inf, inf, -inf, -inf, -inf, -inf, -1]
        for loss, expected in (
            (margin, margins),
            (cross_entropy, [0, 0, inf, inf, inf, inf, one]),
            (unlikelihood, [inf, inf, 0, 0, 0, 0, one - 1]),
        ):
            got = self.variant(loss)(jnp.array(logits), labels)
            np.testing.assert_allclose(got, expected, rtol=1e-6)
            got = self.variant(gradient(loss))(jnp.array(logits), labels)
            assert np.isfinite(got).all()
            if loss is not margin:
                # A loss of zero has no slope.
                np.testing.assert_array_equal(got[np.array(expected) == 0], 0)
        out = [-1, 1 / (1 + np.e), np.e / (1 + np.e)]
        got = self.variant(gradient(cross_entropy))(jnp.array(logits), labels)
        np.testing.assert_allclose(got[2], out, rtol=1e-6)
        two = np.e / (1 + np.e)
        np.testing.assert_allclose(got[6], [-two, 0, two], rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_where_there_is_no_limit_losses_are_nan(self):
        inf = np.inf
        logits = jnp.array([[inf, inf, 0], [-inf, -inf, -inf], [np.nan, 0, 0]])
        for loss in (margin, cross_entropy, unlikelihood):
            assert np.isnan(self.variant(loss)(logits, np.zeros(3, np.int32))).all()

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradient_of_cross_entropy_is_p_minus_onehot(self):
        p, is_y, _, _ = split_softmax(LOGITS, LABELS)
        got = self.variant(gradient(cross_entropy))(LOGITS, LABELS)
        # Probabilities of float32.
        np.testing.assert_allclose(got, p - is_y, atol=2e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradients_keep_their_relative_precision(self):
        grad_ce = self.variant(gradient(cross_entropy))(SURE, FIRST)
        p, is_y, _, q = split_softmax(SURE, FIRST)
        expected = np.where(is_y, -q[:, None], p)
        np.testing.assert_allclose(grad_ce, expected, rtol=NEAR_ONE)
        grad_out = self.variant(gradient(unlikelihood))(SURE, SECOND)
        p, is_y, p_y, q = split_softmax(SURE, SECOND)
        expected = p_y[:, None] * np.where(is_y, 1, -p / q[:, None])
        # The smallest entries are exp(-160), nothing in float32.
        np.testing.assert_allclose(grad_out, expected, rtol=NEAR_ONE, atol=1e-37)


def gradient(loss):
    return jax.grad(lambda logits, y: jnp.sum(loss(logits, y)))


@pytest.mark.parametrize("loss", [margin, cross_entropy, unlikelihood])
def test_gradients_equal_differences(loss):
    # Central differences of float32 are good for about three digits.
    check_grads(
        lambda logits: loss(logits, LABELS),
        (jnp.asarray(LOGITS),),
        order=1,
        eps=1e-2,
        atol=1e-2,
        rtol=1e-2,
    )


@jax.jit
def _all_three(logits, y):
    return margin(logits, y), cross_entropy(logits, y), unlikelihood(logits, y)


_push_out = jax.jit(gradient(unlikelihood))


@hypothesis.given(logits=logit_rows, y=st.integers(0, 3))
def test_losses_are_two_sides_of_the_margin(logits, y):
    m, kept, out = _all_three(logits, np.array([y], np.int32))
    assert kept >= 0 and out >= 0
    # softplus(m) - softplus(-m) = m, to the last places of margins up to 60.
    np.testing.assert_allclose(out - kept, m, atol=1e-5)


@hypothesis.given(logits=logit_rows, y=st.integers(0, 3))
def test_gradient_of_unlikelihood_vanishes_with_the_label(logits, y):
    labels = np.array([y], np.int32)
    _, _, p_y, _ = split_softmax(logits, labels)
    got = np.abs(_push_out(logits, labels))
    # The label's own entry is p_y, the others share as much. Margins reach 60.
    assert got.max() <= p_y[0] * (1 + NEAR_ONE)
    np.testing.assert_allclose(got[0, y], p_y[0], rtol=NEAR_ONE)


class WeightedMeanTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_numpy(self):
        values = LOGITS[:, 0]
        weight = np.arange(16) % 4
        got = self.variant(weighted_mean)(values, weight)
        expected = np.average(values.astype(np.float64), weights=weight)
        # Sixteen float32 terms of at most 30, divided by 24.
        np.testing.assert_allclose(got, expected, atol=2e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_nothing_active_gives_zero_and_no_gradient(self):
        nothing = np.zeros(16, np.int32)
        mean_and_slope = self.variant(jax.value_and_grad(weighted_mean))
        mean, slope = mean_and_slope(LOGITS[:, 0], nothing)
        assert mean == 0
        np.testing.assert_array_equal(slope, np.zeros(16))

    @chex.variants(with_jit=True, without_jit=True)
    def test_padding_is_inert_to_the_bit(self):
        weight = np.array([1] * 10 + [0] * 6, np.int32)
        measure = self.variant(jax.value_and_grad(weighted_mean))
        for other in (3e8, np.inf, -np.inf, np.nan):
            noisy = np.where(weight > 0, LOGITS[:, 0], np.float32(other))
            chex.assert_trees_all_equal(
                measure(LOGITS[:, 0], weight), measure(noisy, weight)
            )

    @chex.variants(with_jit=True, without_jit=True)
    def test_multiplicities_are_repeated_values(self):
        values = LOGITS[:6, 0]
        weight = np.array([2, 0, 1, 3, 0, 4], np.int32)
        repeated = np.repeat(values.astype(np.float64), weight)
        got = self.variant(weighted_mean)(values, weight)
        # Ten float32 terms of at most 10.
        np.testing.assert_allclose(got, repeated.mean(), atol=2e-6)
