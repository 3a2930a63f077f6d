"""Distances against SciPy, closed forms, and the false ones that are in use."""

import chex
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special

from hyperforget_jax.metrics import (
    jensen_shannon,
    kullback_leibler,
    mean_distance,
    output_distance,
)

LN2 = np.log(2)
RANDOM = np.random.default_rng(0)
P = (3 * RANDOM.normal(size=(50, 10))).astype(np.float32)
Q = (3 * RANDOM.normal(size=(50, 10))).astype(np.float32)

logit_rows = hypothesis.extra.numpy.arrays(
    np.float32, (1, 4), elements=st.floats(-20, 20, width=32)
)


def reference_jensen_shannon(p_logits, q_logits):
    """SciPy's distance is the root of the divergence, in float64."""
    p, q = (
        scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
        for logits in (p_logits, q_logits)
    )
    return scipy.spatial.distance.jensenshannon(p, q, axis=-1) ** 2


def false_jensen_shannon(p_logits, q_logits):
    """KL(m||p) for KL(p||m), averaged over N x C elements: bad teaching and heirs."""
    p, q = (
        scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
        for logits in (p_logits, q_logits)
    )
    m = (p + q) / 2
    terms = m * np.log(m / p) / 2 + m * np.log(m / q) / 2
    return terms.mean()


class JensenShannonTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_scipy(self):
        got = self.variant(jensen_shannon)(P, Q)
        chex.assert_shape(got, (50,))
        # Sums of ten float32 terms of at most ln 2.
        np.testing.assert_allclose(got, reference_jensen_shannon(P, Q), atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_disjoint_outputs_are_ln_2_apart(self):
        p = jnp.array([[0.0, -200.0], [0.0, -1e9], [0.0, -jnp.inf]])
        got = self.variant(jensen_shannon)(p, p[:, ::-1])
        np.testing.assert_allclose(got, LN2, rtol=1e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_known_value(self):
        # Both put 0.28 on a class they share and 0.72 on one of their own: each own
        # class is worth ln 2, so the divergence is 0.72 ln 2 = 0.499.
        p = jnp.log(jnp.array([[0.28, 0.72, 1e-30]]))
        q = jnp.log(jnp.array([[0.28, 1e-30, 0.72]]))
        got = self.variant(jensen_shannon)(p, q)
        np.testing.assert_allclose(got, 0.72 * LN2, rtol=1e-6)
        np.testing.assert_allclose(got, 0.499, atol=5e-4)

    @chex.variants(with_jit=True, without_jit=True)
    def test_is_not_the_false_one(self):
        ours = float(jnp.mean(self.variant(jensen_shannon)(P, Q)))
        false = float(false_jensen_shannon(P, Q))
        assert ours == pytest.approx(reference_jensen_shannon(P, Q).mean(), abs=1e-6)
        # The false one divides by the ten classes; no rounding brings that back.
        assert false < ours / 2

    @chex.variants(with_jit=True, without_jit=True)
    def test_near_outputs_lose_no_digits(self):
        # Second order: JS = sum((p - q)^2 / p) / 8 for q near p.
        p, step = jnp.zeros((1, 2)), 1e-2
        q = jnp.array([[step, 0.0]])
        got = self.variant(jensen_shannon)(p, q)
        # 3e-6 in all, from terms of 1e-3: four digits are left in float32.
        np.testing.assert_allclose(got, step**2 / 32, rtol=1e-2)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradient_is_finite_where_probabilities_vanish(self):
        p = jnp.array([[0.0, -200.0, -1e9]])
        gradient = self.variant(jax.grad(lambda p: jensen_shannon(p, -p).sum()))(p)
        assert np.isfinite(gradient).all()


@hypothesis.given(logit_rows, logit_rows)
def test_jensen_shannon_is_symmetric_and_bounded(p, q):
    there, back = jensen_shannon(p, q), jensen_shannon(q, p)
    np.testing.assert_allclose(there, back, atol=1e-7)
    assert 0 <= there[0] <= np.float32(LN2)
    # Four classes, float32 terms of at most ln 2.
    np.testing.assert_allclose(there, reference_jensen_shannon(p, q), atol=1e-6)


@hypothesis.given(logit_rows, st.floats(-20, 20, width=32))
def test_jensen_shannon_is_zero_for_shifted_logits(p, shift):
    # Shifting rounds logits of up to 40 by 2e-6 relative to probability one.
    np.testing.assert_allclose(jensen_shannon(p, p + np.float32(shift)), 0, atol=1e-6)


@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        np.float32, (1, 4), elements=st.floats(-2, 2, width=32)
    ),
    st.integers(0, 3),
    st.floats(0.5, 5, width=32),
)
def test_jensen_shannon_is_positive_for_other_outputs(p, label, amount):
    q = p.copy()
    q[0, label] += np.float32(amount)
    assert jensen_shannon(p, q)[0] > 1e-5


class OutputDistanceTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_numpy(self):
        p, q = scipy.special.softmax(P, axis=-1), scipy.special.softmax(Q, axis=-1)
        expected = np.sqrt(((p - q) ** 2).sum(-1))
        # Float32 softmax outputs.
        np.testing.assert_allclose(
            self.variant(output_distance)(P, Q), expected, atol=1e-6
        )

    @chex.variants(with_jit=True, without_jit=True)
    def test_disjoint_outputs_are_root_2_apart(self):
        p = jnp.array([[0.0, -200.0]])
        got = self.variant(output_distance)(p, p[:, ::-1])
        np.testing.assert_allclose(got, np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("distance", [jensen_shannon, output_distance])
class TestMeanDistance:
    def test_is_the_mean_of_pairwise_means(self, distance):
        weight = RANDOM.integers(0, 3, 50)
        retrained = RANDOM.normal(size=(3, 50, 10)).astype(np.float32)
        expected = np.mean(
            [np.average(distance(P, one), weights=weight) for one in retrained]
        )
        got = jax.jit(mean_distance, static_argnums=0)(
            distance, P, retrained, jnp.asarray(weight)
        )
        # Float32 means of 50 terms of order one.
        np.testing.assert_allclose(got, expected, rtol=1e-5)

    def test_is_not_the_distance_to_the_mean_model(self, distance):
        # Two retrained that disagree, and a model that sits between them.
        retrained = jnp.array([[[9.0, -9.0]], [[-9.0, 9.0]]])
        got = mean_distance(distance, jnp.zeros((1, 2)), retrained, jnp.ones(1))
        assert got > 0.2

    def test_weightless_rows_are_inert(self, distance):
        weight = jnp.asarray(np.r_[np.ones(40), np.zeros(10)])
        retrained = np.stack([Q, P])
        noisy = P.copy()
        noisy[40:] = 100
        np.testing.assert_array_equal(
            mean_distance(distance, P, retrained, weight),
            mean_distance(distance, noisy, retrained, weight),
        )


def test_output_distance_averages_norms_and_not_their_squares():
    got = mean_distance(output_distance, P, Q[None], jnp.ones(50))
    p, q = scipy.special.softmax(P, axis=-1), scipy.special.softmax(Q, axis=-1)
    root_mean_square = np.sqrt(((p - q) ** 2).sum(-1).mean())
    assert abs(got - root_mean_square) > 1e-2


class KullbackLeiblerTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_scipy(self):
        got = self.variant(kullback_leibler)(Q, P)
        p, q = (scipy.special.softmax(np.float64(x), axis=-1) for x in (P, Q))
        # Sums of ten float32 terms of size one.
        np.testing.assert_allclose(
            got, scipy.special.rel_entr(p, q).sum(-1), rtol=1e-5, atol=1e-6
        )

    def test_is_of_the_first_from_the_second(self):
        """The model that rules out what the oracle says is punished, not the other."""
        sure, open_minded = jnp.array([[20.0, 0.0]]), jnp.array([[0.0, 0.0]])
        assert kullback_leibler(sure, open_minded)[0] > 9
        assert kullback_leibler(open_minded, sure)[0] < 0.7

    def test_what_is_impossible_to_the_oracle_costs_nothing(self):
        p = jnp.array([[0.0, 1.0, -jnp.inf]])
        got = kullback_leibler(jnp.array([[0.0, 1.0, -400.0]]), p)
        np.testing.assert_allclose(got, 0, atol=1e-6)


@pytest.mark.parametrize("place", [0, 2])
def test_classes_at_minus_infinity_are_absent(place):
    """As if their logits were very low, or as without them where both lack them."""
    other = jnp.array([[0.5, -1.0, 2.0]])
    gone = jnp.array([[0.0, 1.0, 2.0]]).at[0, place].set(-jnp.inf)
    low = jnp.where(jnp.isneginf(gone), -1e5, gone)
    for distance in (jensen_shannon, output_distance):
        np.testing.assert_allclose(distance(gone, other), distance(low, other))
        np.testing.assert_allclose(distance(gone, gone), 0, atol=1e-7)
    np.testing.assert_allclose(
        kullback_leibler(other, gone), kullback_leibler(other, low)
    )
    assert np.isinf(kullback_leibler(gone, other)).all()
    both = jnp.where(jnp.isneginf(gone), -jnp.inf, other)
    rest = np.delete(np.arange(3), place)
    for distance in (jensen_shannon, output_distance, kullback_leibler):
        np.testing.assert_allclose(
            distance(gone, both), distance(gone[:, rest], both[:, rest]), rtol=1e-5
        )


def test_jensen_shannon_in_nats():
    p = jnp.array([[0.7, 0.2, 0.1]])
    found = jensen_shannon(jnp.log(p), jnp.log(p[:, ::-1]))
    np.testing.assert_allclose(found, 0.253102, atol=1e-6)
