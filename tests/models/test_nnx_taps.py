"""NNX models have taps: those of Linen's layers with the same weights."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import hyperforget_jax as hf
from tests import toys

LINES = jax.random.normal(jax.random.key(0), (4, 9, 6))
VECTORS = jax.random.normal(jax.random.key(1), (4, 6))
# The same float32 sums in another order.
CLOSE = dict(rtol=1e-5, atol=1e-5)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadAttention(2, qkv_features=6, name="attention")(x)
        conv = nn.Conv(4, (3,), strides=2, feature_group_count=2, name="conv")
        x = nn.tanh(nn.DenseGeneral((2, 3), name="wide")(nn.tanh(conv(x))))
        return nn.DenseGeneral(toys.NUM_CLASSES, axis=(-3, -2, -1), name="head")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        general, classes = nnx.LinearGeneral, toys.NUM_CLASSES
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)
        self.conv = nnx.Conv(
            6,
            4,
            (3,),
            strides=2,
            feature_group_count=2,
            conv_general_dilated=hf.models.conv,
            rngs=rngs,
        )
        self.wide = nnx.Einsum("btd,dhk->bthk", (4, 2, 3), (2, 3), rngs=rngs)
        self.head = general((5, 2, 3), classes, axis=(-3, -2, -1), rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(x)
        return self.head(nnx.tanh(self.wide(nnx.tanh(self.conv(inputs=x)))))


@functools.cache
def world(create, lines=False):
    """Classifier and drawn variables."""
    classifier, x = hf.from_nnx(create), LINES if lines else VECTORS
    return classifier, jax.jit(classifier.init)(jax.random.key(2), x)


def test_taps_are_those_of_linen():
    classifier, variables = world(Nnx, lines=True)
    linen = hf.from_linen(Linen())
    got = jax.jit(classifier.tapped)(variables, LINES, {})
    chex.assert_trees_all_close(
        got, jax.jit(linen.tapped)(variables, LINES, {}), **CLOSE
    )
    np.testing.assert_allclose(got[0], classifier.apply(variables, LINES), **CLOSE)
    projections = {f"attention/{name}" for name in ("query", "key", "value", "out")}
    assert set(got[1]) == {*projections, "conv", "wide", "head"}
    (head,), (conv,) = got[1]["head"], got[1]["conv"]
    assert head.gives_logits and (conv.strides, conv.groups) == ((2,), 2)


def test_fishers_by_taps_are_those_of_whole_gradients():
    classifier, variables = world(Nnx, lines=True)
    ones = jnp.ones(4, jnp.int32)
    data = hf.Examples(LINES, jnp.arange(4), ones, ones)
    by_taps, by_gradients = (
        jax.jit(functools.partial(hf.fisher.diagonal, one, batch_size=2))(
            variables, data
        ).values
        for one in (classifier, classifier._replace(tapped=None))
    )
    chex.assert_trees_all_close(by_taps, by_gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_taps_are_pure_and_vmap_over_models():
    call = nnx.Conv.__call__
    classifier, variables = world(Nnx, lines=True)
    models = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), variables)
    taps = jax.jit(jax.vmap(classifier.taps, (0, None)))(models, LINES)
    assert taps["head"][0].input.shape == (2, 4, 30)
    # Flax's own class has not changed, and models are made of it.
    assert nnx.Conv.__call__ is call and type(Nnx(nnx.Rngs(0)).conv) is nnx.Conv


def test_a_shift_moves_the_logits_as_the_bias_does():
    classifier, variables = world(Nnx, lines=True)
    shift = jax.random.normal(jax.random.key(3), (2, 3))
    wide = jnp.broadcast_to(shift, (4, 5, 2, 3))
    logits, taps = jax.jit(classifier.tapped)(variables, LINES, {"wide": (wide,)})
    layer = variables["params"]["wide"]
    params = {**variables["params"], "wide": {**layer, "bias": layer["bias"] + shift}}
    expected = jax.jit(classifier.apply)({"params": params}, LINES)
    np.testing.assert_allclose(logits, expected, **CLOSE)
    assert set(taps) == {"wide"}


class Wrapped(nnx.Module):
    """One layer behind a transformation, and a head."""

    def __init__(self, rngs, how):
        self.how = how
        self.layer = nnx.Linear(6, 6, rngs=rngs)
        self.head = nnx.Linear(6, toys.NUM_CLASSES, rngs=rngs)

    @nnx.jit
    def jitted(self, x):
        return self.layer(x)

    @nnx.remat
    def rematerialised(self, x):
        return self.layer(x)

    def __call__(self, x):
        x = {
            "plain": lambda: self.layer(x),
            "jit": lambda: self.jitted(x),
            "remat": lambda: self.rematerialised(x),
            "checkpoint": lambda: jax.checkpoint(lambda x: self.layer(x))(x),
            "vmap over rows": lambda: jax.vmap(lambda x: self.layer(x))(x),
        }[self.how]()
        return self.head(nnx.relu(x))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["jit", "remat", "checkpoint", "vmap over rows"])
def test_transformations_that_change_no_number_change_no_tap(how):
    plain, variables = world(functools.partial(Wrapped, how="plain"))
    classifier = hf.from_nnx(functools.partial(Wrapped, how=how))
    expected = plain.tapped(variables, VECTORS, {})
    for _ in range(2):  # What is cached has marks in one and none in the other.
        logits = classifier.apply(variables, VECTORS)
        got = classifier.tapped(variables, VECTORS, {})
        chex.assert_trees_all_close(got, expected, **CLOSE)
        np.testing.assert_allclose(got[0], logits, **CLOSE)
    assert hf.models.untapped_layers(classifier, variables, VECTORS) == []


class Doubled(nnx.Linear):
    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


class Stacked(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def make(rngs):
            return nnx.Linear(6, 6, rngs=rngs)

        self.layers = make(rngs)
        self.head = nnx.Linear(6, toys.NUM_CLASSES, rngs=rngs)

    def __call__(self, x):
        carry = nnx.Carry
        run = nnx.scan(lambda x, layer: layer(x), in_axes=(carry, 0), out_axes=carry)
        return self.head(run(x, self.layers))


class Mapped(Stacked):
    def __call__(self, x):
        run = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))
        return self.head(jnp.mean(run(self.layers, x), axis=0))


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(6, 6, rngs=rngs) for _ in range(2)])
        self.layers[1].kernel = self.layers[0].kernel
        self.head = nnx.Linear(6, toys.NUM_CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(self.layers[1](nnx.tanh(self.layers[0](x))))


def unusual(layer):
    def create(rngs):
        return nnx.Sequential(layer(rngs), nnx.Linear(6, toys.NUM_CLASSES, rngs=rngs))

    return create


@pytest.mark.slow
@pytest.mark.parametrize(
    ("create", "left"),
    [
        (Stacked, ["layers/kernel"]),
        (Mapped, ["layers/kernel"]),
        (Tied, ["layers/0/kernel"]),
        (unusual(lambda rngs: Doubled(6, 6, rngs=rngs)), ["layers/0/kernel"]),
        (
            unusual(
                lambda rngs: nnx.Linear(
                    6, 6, dot_general=functools.partial(jax.lax.dot_general), rngs=rngs
                )
            ),
            ["layers/0/kernel"],
        ),
        (
            unusual(lambda rngs: nnx.Einsum("nd,ed->ne", (6, 6), rngs=rngs)),
            ["layers/0/kernel"],
        ),
    ],
    ids=["scan", "vmap", "tied", "subclass", "own product", "einsum turned"],
)
def test_layers_that_a_tap_does_not_explain_are_left_out_by_name(create, left):
    classifier, variables = world(create)
    assert hf.models.untapped_layers(classifier, variables, VECTORS) == left
    taps = jax.eval_shape(classifier.tapped, variables, VECTORS, {})[1]
    assert len(taps) == 1 and next(iter(taps.values()))[0].gives_logits
