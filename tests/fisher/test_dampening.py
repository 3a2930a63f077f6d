"""The dampening rule against a loop, and what it can never do."""

import dataclasses
import functools

import chex
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import trees
from hyperforget_jax.models.head import centre_head
from tests import toys

RANDOM = np.random.default_rng(0)
SHAPES = {"kernel": (4, 3), "bias": (3,)}


def draw(positive=False):
    tree = {name: RANDOM.normal(size=shape) for name, shape in SHAPES.items()}
    return {
        name: np.float32(np.square(leaf) if positive else leaf)
        for name, leaf in tree.items()
    }


def fisher(values):
    return hf.fisher.Fisher(values, np.float32(1), "per_example", None)


PARAMS, FORGET, DATA = draw(), fisher(draw(True)), fisher(draw(True))


def by_loop(params, forget, data, alpha, strength):
    """Equations 4 and 5, one parameter after the other, in float64."""
    out, selected, total = {}, 0, 0
    for name, leaf in params.items():
        out[name] = np.array(leaf, np.float64)
        for j in np.ndindex(leaf.shape):
            f, d = np.float64(forget.values[name][j]), np.float64(data.values[name][j])
            total += 1
            if f > alpha * d:
                selected += 1
                out[name][j] *= min(strength * d / f, 1)
    return out, selected / total


class DampenTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_a_loop_over_parameters(self):
        dampen = self.variant(hf.fisher.dampen)
        for alpha, strength in ((1.0, 1.0), (0.5, 3.0), (2.0, 0.1)):
            got = dampen(PARAMS, FORGET, DATA, alpha=alpha, strength=strength)
            expected = by_loop(PARAMS, FORGET, DATA, alpha, strength)
            assert 0 < expected[1] < 1
            # A product and a quotient in float32.
            chex.assert_trees_all_close(got, expected, rtol=1e-6)
            assert got[1].dtype == jnp.float32 and got[1].shape == ()

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_huge_alpha_selects_nothing(self):
        dampen = self.variant(hf.fisher.dampen)
        got, selected = dampen(PARAMS, FORGET, DATA, alpha=1e12, strength=1.0)
        chex.assert_trees_all_equal(got, PARAMS)
        assert selected == 0

    @chex.variants(with_jit=True, without_jit=True)
    def test_zeros_make_no_nan(self):
        """What nobody needs stays; what only the forgotten need goes entirely."""
        dampen = self.variant(hf.fisher.dampen)
        params = np.float32([3, 3, 3, 3, 3])
        # The last but one is below the smallest normal number: as good as zero.
        forget, data = np.float32([0, 2, 0, 1e-38, 2e-38]), np.float32([0, 0, 2, 0, 0])
        got, selected = dampen(
            params, fisher(forget), fisher(data), alpha=1.0, strength=1.0
        )
        np.testing.assert_array_equal(got, [3, 0, 3, 3, 0])
        assert selected == np.float32(2 / 5)


fishers = hypothesis.extra.numpy.arrays(
    np.float32, (6,), elements=st.floats(0, 1e6, width=32)
)
_dampen = jax.jit(hf.fisher.dampen)


@hypothesis.given(
    forget=fishers,
    data=fishers,
    alpha=st.floats(0.01, 100),
    strength=st.floats(0.01, 100),
)
def test_no_weight_ever_grows_or_changes_its_sign(forget, data, alpha, strength):
    params = np.float32([-3, -1, -0.5, 0.5, 1, 3])
    got, selected = _dampen(
        params, fisher(forget), fisher(data), alpha=alpha, strength=strength
    )
    assert (np.abs(got) <= np.abs(params)).all()
    assert (np.asarray(got) * params >= 0).all()
    assert (got == params)[~(forget > np.float32(alpha) * data)].all()
    assert 0 <= selected <= 1


def test_a_share_of_the_data_never_exceeds_its_whole():
    """``F_f / F_D <= 1 / pi``, so that ``alpha >= 1 / pi`` selects nothing."""
    data, classifier = toys.points(), toys.perceptron()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    measure = jax.jit(
        lambda data: hf.fisher.diagonal(classifier, variables, data, batch_size=16)
    )
    whole = measure(data)
    dampen = jax.jit(hf.fisher.dampen)
    for rows in ([3], [0, 1, 2, 3], np.flatnonzero(data.y == 1).tolist()):
        weight = np.isin(np.arange(40), rows).astype(np.int32)
        share = measure(data._replace(weight=jnp.asarray(weight)))
        bound = 40 / len(rows)
        ratios = [
            np.max(np.divide(f, d, where=d > 0, out=np.zeros_like(d)))
            for f, d in zip(
                *(map(np.asarray, jax.tree.leaves(f.values)) for f in (share, whole)),
                strict=True,
            )
        ]
        # Forty float32 squares are summed in another order.
        limit = bound * (1 + 1e-6)
        assert max(ratios) <= limit
        params = variables["params"]
        kept, selected = dampen(params, share, whole, alpha=limit, strength=1.0)
        assert selected == 0
        chex.assert_trees_all_equal(kept, params)
        # Half of what there is selects something.
        half = max(ratios) / 2
        _, selected = dampen(params, share, whole, alpha=half, strength=1.0)
        assert selected > 0


def test_sweeps_over_alpha_and_strength_are_a_vmap():
    alphas, strengths = jnp.array([0.5, 1.0, 4.0]), jnp.array([1.0, 0.1, 2.0])
    params, selected = jax.vmap(
        lambda alpha, strength: hf.fisher.dampen(
            PARAMS, FORGET, DATA, alpha=alpha, strength=strength
        )
    )(alphas, strengths)
    assert selected.shape == (3,) and (jnp.diff(selected) < 0).all()
    for index in range(3):
        expected = by_loop(
            PARAMS, FORGET, DATA, float(alphas[index]), float(strengths[index])
        )
        got = jax.tree.map(lambda leaf, at=index: leaf[at], (params, selected))
        # A product and a quotient in float32.
        chex.assert_trees_all_close(got, expected, rtol=1e-6)


TREE = {"Block_0": {"Conv_0": {"kernel": draw()["kernel"]}}, "Dense_1": draw()}
TWICE = {"alpha": 0.5, "strength": 0.5}


def alike(scope=None):
    """Two Fishers of the tree's parameters, or of those in scope."""
    part = TREE if scope is None else trees.restrict(TREE, scope)
    return [
        fisher(
            jax.tree.map(lambda leaf: np.float32(RANDOM.uniform(size=leaf.shape)), p)
        )
        for p in (part, part)
    ]


class ParametersTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_parameters_out_of_scope_stay(self):
        forget, data = alike(("Dense_1",))
        dampen = self.variant(hf.fisher.dampen)
        got, selected = dampen(TREE, forget, data, **TWICE)
        chex.assert_trees_all_equal(got["Block_0"], TREE["Block_0"])
        head, share = dampen(TREE["Dense_1"], *map(inside, (forget, data)), **TWICE)
        chex.assert_trees_all_equal(got["Dense_1"], head)
        # Fifteen of twenty-seven parameters are in the head.
        np.testing.assert_allclose(selected, share * 15 / 27, rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_of_the_head_only_the_columns_are_selected(self):
        forget, data = alike()
        dampen = self.variant(functools.partial(hf.fisher.dampen, head="Dense_1"))
        columns = np.array([False, True, False])
        got, selected = dampen(TREE, forget, data, columns=columns, **TWICE)
        whole, more = jax.jit(hf.fisher.dampen)(TREE, forget, data, **TWICE)
        # The same float32 numbers from another compilation.
        close = functools.partial(chex.assert_trees_all_close, rtol=1e-6)
        close(got["Block_0"], whole["Block_0"])
        for name in ("kernel", "bias"):
            close(got["Dense_1"][name][..., 1], whole["Dense_1"][name][..., 1])
            chex.assert_trees_all_equal(
                got["Dense_1"][name][..., ::2], TREE["Dense_1"][name][..., ::2]
            )
        assert 0 < selected < more

    @chex.variants(with_jit=True, without_jit=True)
    def test_centring_the_head_keeps_softmax(self):
        got = self.variant(
            functools.partial(centre_head, head="Dense_1"),
        )(TREE)
        chex.assert_trees_all_equal(got["Block_0"], TREE["Block_0"])
        h = np.float32(RANDOM.normal(size=(5, 4)))
        before, after = (
            jax.nn.softmax(
                h @ tree["Dense_1"]["kernel"] + tree["Dense_1"]["bias"][None]
            )
            for tree in (TREE, got)
        )
        # Logits of a few units, rounded.
        np.testing.assert_allclose(before, after, rtol=3e-6)
        for leaf in jax.tree.leaves(got["Dense_1"]):
            np.testing.assert_allclose(np.mean(leaf, axis=-1), 0, atol=1e-7)


def inside(whole):
    return fisher(whole.values["Dense_1"])


def test_what_does_not_fit_is_refused():
    forget, data = alike()

    def refused(message, *fishers, **options):
        with pytest.raises(ValueError, match=message):
            hf.fisher.dampen(TREE, *(fishers or (forget, data)), **TWICE, **options)

    batchwise = dataclasses.replace(data, estimator="batch_gradient", batch_size=8)
    refused("mixed estimators: one Fisher is estimator='per_ex", forget, batchwise)
    refused("cover different parameters", forget, inside(data))
    elsewhere = fisher({"Dense_9": forget.values["Dense_1"]})
    refused("'Dense_9/bias', which the parameters have not", elsewhere, elsewhere)
    stacked = fisher(jax.tree.map(lambda leaf: leaf[None], forget.values))
    refused(r"forget.values must be like params: at Block_0/C", stacked, data)
    refused("scope has 'Dense_5'", columns=np.ones(3, bool), head="Dense_5")
    with pytest.raises(ValueError, match="scope has 'Dense_5'.*Dense_1/kernel"):
        centre_head(TREE, "Dense_5")


def test_parameters_keep_their_type():
    forget, data = alike()
    short = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), TREE)
    got, _ = hf.fisher.dampen(short, forget, data, **TWICE)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(got))


def test_the_head_is_centred_among_some_classes():
    among = np.array([True, False, True, False])[: TREE["Dense_1"]["bias"].size]
    among = np.resize(among, TREE["Dense_1"]["bias"].shape)
    got = centre_head(TREE, "Dense_1", jnp.asarray(among))
    for leaf in jax.tree.leaves(got["Dense_1"]):
        np.testing.assert_allclose(np.mean(leaf[..., among], axis=-1), 0, atol=1e-6)
    chex.assert_trees_all_equal(got["Block_0"], TREE["Block_0"])
