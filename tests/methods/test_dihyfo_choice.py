"""Which sample is kept, and what its margins say is left, against SciPy's t."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

import hyperforget_jax as hf
from hyperforget_jax.methods.dihyfo_choice import choose, share_left
from tests import toys

C = toys.NUM_CLASSES
PROBE = toys.points()._replace(weight=jnp.arange(40) % 3)
GONE = jnp.arange(C) < 2


def logits(shift=0.0, seed=0):
    noise = jax.random.normal(jax.random.key(seed), (40, C))
    return noise - shift * jax.nn.one_hot(PROBE.y, C)


def expected(given, gone):
    """The predictive tail above zero, of rows repeated as often as they weigh."""
    shares = [0.0]
    for label in np.flatnonzero(gone):
        rows = np.repeat(np.arange(40), np.where(PROBE.y == label, PROBE.weight, 0))
        own = np.asarray(given, np.float64)[rows]
        margin = own[:, label] - np.delete(own, label, axis=1).max(1)
        n, spread = len(margin), margin.std(ddof=1)
        t = margin.mean() / (spread * np.sqrt(1 + 1 / n))
        shares.append(scipy.stats.t.sf(-t, n - 1))
    return max(shares)


@chex.variants(with_jit=True, without_jit=True)
class ShareLeft(chex.TestCase):
    def test_it_is_the_tail_of_students_t(self):
        share = self.variant(share_left)
        for shift in (-2.0, 0.0, 1.0, 3.0, 8.0):
            found = share(logits(shift), PROBE, GONE)
            # betainc in float32.
            np.testing.assert_allclose(
                found, expected(logits(shift), GONE), rtol=1e-3, atol=1e-7
            )

    def test_of_a_single_row_all_may_be_left_and_of_none_nothing(self):
        share = self.variant(share_left)
        first = int(jnp.argmax((PROBE.y == 0) & (PROBE.weight > 0)))
        one = PROBE._replace(weight=(jnp.arange(40) == first).astype(jnp.int32))
        assert share(logits(8.0), one, GONE) == 1
        none = PROBE._replace(weight=jnp.where(PROBE.y < 2, 0, PROBE.weight))
        assert share(logits(), none, GONE) == 0
        assert share(logits(jnp.nan), PROBE, GONE) == 1

    def test_a_masked_class_is_gone(self):
        masked = jnp.where(GONE[None], -jnp.inf, logits())
        assert self.variant(share_left)(masked, PROBE, GONE) == 0

    def test_rows_that_are_alike_are_certain(self):
        share = self.variant(share_left)
        for value, left in ((-3.0, 0), (3.0, 1)):
            given = value * jax.nn.one_hot(PROBE.y, C)
            assert share(given, PROBE, GONE) == left


def test_few_rows_leave_more_open_than_many():
    few = PROBE._replace(weight=PROBE.weight * (jnp.arange(40) < 20))
    ones = PROBE._replace(weight=jnp.ones(40, jnp.int32))
    shift = 3.0
    # The same rows counted four times are surer of the same mean and deviation.
    many = ones._replace(weight=4 * ones.weight)
    assert share_left(logits(shift), ones, GONE) > share_left(logits(shift), many, GONE)
    assert share_left(logits(shift), few, GONE) > share_left(logits(shift), PROBE, GONE)


def test_the_first_group_with_enough_forgotten_and_its_best_sample_are_chosen():
    classifier = toys.softmax_regression()
    fresh = classifier.init(jax.random.key(0), PROBE.x)
    trained = hf.fit(
        jax.random.key(1),
        classifier,
        toys.points(),
        optax.adam(3e-2),
        60,
        batch_size=16,
    )

    def forgets(amount):
        params = trained["params"]["Dense_0"]
        bias = params["bias"] - amount * GONE
        return {"params": {"Dense_0": {**params, "bias": bias}}}

    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, fresh)
    blurred = jax.tree.map(lambda leaf: 0.3 * leaf, trained)
    blurred["params"]["Dense_0"]["bias"] = forgets(60)["params"]["Dense_0"]["bias"]
    models = [trained, broken, blurred, forgets(60.0), forgets(90.0), forgets(90.0)]
    stacked = hf.trees.stack(models)
    found = jax.jit(choose, static_argnums=(0, 4))(
        classifier, stacked, PROBE, GONE, 2, 0.01
    )
    assert found.enough and found.number == 3
    assert found.left[0] > 0.01 and found.left[1] == 1 and (found.left[2:] < 0.01).all()
    assert np.isnan(found.forgotten_accuracy[1]) and found.forgotten_accuracy[3] == 0
    for model, is_finite in ((trained, True), (broken, False)):
        blind = choose(classifier, hf.trees.stack([model]), None, GONE, 1, 0.01)
        assert blind.enough == is_finite and blind.number == 0 and blind.left is None
    none = choose(classifier, hf.trees.take(stacked, slice(2)), PROBE, GONE, 2, 0.01)
    assert not none.enough and none.number == 0
