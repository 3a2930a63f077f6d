"""Tokens and back to the bit, what may be permuted, and scales that cost no bit."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from hyperforget_jax.hypernet import scales
from hyperforget_jax.hypernet.chunk_tokens import Group
from tests import toys

MODES = {"train": {"train": True}, "eval": {"train": False}}
X = jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32)


class Chain(nn.Module):
    """Convolutions, then a flattening or a mean over the image, then dense layers."""

    convolutions: tuple = (3, 4)
    features: tuple = (5,)
    bias: bool = True
    flatten: bool = True

    @nn.compact
    def __call__(self, x):
        for width in self.convolutions:
            x = nn.relu(nn.Conv(width, (2, 2), strides=2, use_bias=self.bias)(x))
        x = x.reshape(x.shape[0], -1) if self.flatten else jnp.mean(x, axis=(1, 2))
        for width in self.features:
            x = nn.tanh(nn.Dense(width, use_bias=self.bias)(x))
        return nn.Dense(3, use_bias=self.bias)(x)


class Between(nn.Module):
    """Two hidden layers of one width, and something done to the second."""

    change: str

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(6)(x.reshape(x.shape[0], -1)))
        layer = nn.Dense(6)
        y = nn.relu(layer(x))
        match self.change:
            case "residual":
                y = x + y
            case "again":
                y = nn.relu(layer(y))
            case "groups":
                y = nn.Conv(6, (1,), feature_group_count=2)(y[:, None])[:, 0]
            case "norm":
                y = nn.LayerNorm()(y)
            case "batch":
                y = nn.BatchNorm(not train)(y)
            case "bare batch":
                y = nn.BatchNorm(not train, use_scale=False, use_bias=False)(y)
            case "mixed":
                y = jnp.cumsum(y, axis=1)
            case "narrow":  # Whose one unit is often dead.
                y = nn.relu(nn.Dense(1)(jnp.cumsum(y, axis=1)))
            case "deaf":
                y = jnp.zeros_like(y)
            case "heads":
                y = jnp.max(y.reshape(-1, 2, 3), axis=1)
            case "wider":
                y = jnp.concatenate([y, y[:, :1]], axis=1)
            case "scanned":
                step = nn.scan(
                    lambda dense, y, _: (nn.relu(dense(y)), None),
                    variable_axes={"params": 0},
                    split_rngs={"params": True},
                    length=2,
                )
                y, _ = step(nn.Dense(6, parent=self), y, None)
        return nn.Dense(3)(y)


class Heads(nn.Module):
    """Dense layers that give, and contract, several axes."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.DenseGeneral((2, 3))(x.reshape(x.shape[0], -1)))
        return nn.DenseGeneral(4, axis=(-2, -1))(x)


class Half(nn.Module):
    """Computes in half precision."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(40, dtype=jnp.bfloat16)(x))
        return nn.Dense(3)(x)


MLP = hf.models.MLP
# name: the module, the expected kind, its hidden units, whether it has modes
NETWORKS = {
    "softmax regression": (MLP(()), "units", (), False),
    "perceptron": (MLP((5,)), "units", (5,), False),
    "deep perceptron": (MLP((5, 1, 2, 6)), "units", (5, 1, 2, 6), False),
    "GptCNN": (hf.models.GptCNN(), "units", (16, 32), False),
    "flattened": (Chain(), "units", (3, 4, 5), False),
    "dense general": (Heads(), "units", (6,), False),
    "half precision": (Half(), "units", (40, 40), False),
    "ConvNet": (toys.ConvNet(), "chunks", (), True),
    "SmallVGG": (hf.models.SmallVGG((2, 3, 4), 5), "chunks", (), True),
    "AllCNN": (hf.models.AllCNN(2), "chunks", (), True),
    "ResNet18": (hf.models.ResNet18(widths=(2, 3)), "chunks", (), True),
    "ViT": (hf.models.ViT(4, width=4, depth=1, heads=2), "chunks", (), False),
}
UNITS = [name for name, (_, kind, _, _) in NETWORKS.items() if kind == "units"]


def classify(module, modes=False):
    classifier = hf.from_linen(module, **MODES if modes else {})
    return classifier, jax.eval_shape(classifier.init, jax.random.key(0), X)


@functools.cache
def network(name):
    """A classifier, its tokenizer and random parameters, biases and all."""
    classifier, shapes = classify(NETWORKS[name][0], NETWORKS[name][3])
    return classifier, hypernet.tokenizer(classifier, shapes, X), draw(shapes["params"])


def draw(shapes, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), shapes
    )


def assert_same_bits(got, expected):
    chex.assert_trees_all_equal_shapes_and_dtypes(got, expected)
    for one, other in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        bits = f"u{one.dtype.itemsize}"
        np.testing.assert_array_equal(one.view(bits), other.view(bits))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_comes_back(name):
    _, tokenizer, params = network(name)
    assert (tokenizer.kind, tokenizer.hidden) == NETWORKS[name][1:3]
    got = jax.jit(tokenizer.tokenize)(params)
    assert [group.shape for group in got] == [
        (group.count, group.width) for group in tokenizer.groups
    ]
    assert {group.dtype for group in got} == {jnp.dtype("float32")}
    assert_same_bits(jax.jit(tokenizer.detokenize)(got), params)


class RoundTrip(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("softmax regression", "flattened", "ConvNet")
    def test_is_exact(self, name):
        _, tokenizer, params = network(name)
        got = self.variant(tokenizer.tokenize)(params)
        assert_same_bits(self.variant(tokenizer.detokenize)(got), params)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(("perceptron", "bfloat16"), ("ConvNet", "float16"))
    def test_is_exact_in_half_precision(self, name, dtype):
        module, _, _, modes = NETWORKS[name]
        classifier, shapes = classify(module, modes)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), draw(shapes["params"]))
        tokenizer = hypernet.tokenizer(classifier, {**shapes, "params": params}, X)
        assert tokenizer.kind == NETWORKS[name][1]
        got = self.variant(tokenizer.tokenize)(params)
        assert {group.dtype for group in got} == {jnp.dtype("float32")}
        assert_same_bits(self.variant(tokenizer.detokenize)(got), params)

    @chex.variants(with_jit=True, without_jit=True)
    def test_is_exact_for_a_whole_population(self):
        _, tokenizer, params = network("perceptron")
        stacked = jax.tree.map(lambda leaf: np.stack([leaf, -leaf]), params)
        got = self.variant(jax.vmap(tokenizer.tokenize))(stacked)
        assert_same_bits(self.variant(jax.vmap(tokenizer.detokenize))(got), stacked)


@settings(max_examples=5)
@given(
    chain=st.builds(
        Chain,
        convolutions=st.lists(st.integers(1, 4), max_size=2).map(tuple),
        features=st.lists(st.integers(1, 5), max_size=2).map(tuple),
        bias=st.booleans(),
        flatten=st.booleans(),
    ),
    values=st.lists(
        st.just(-0.0) | st.floats(width=32, allow_nan=False), min_size=1, max_size=40
    ),
)
def test_any_chain_of_any_values_comes_back(chain, values):
    classifier, shapes = classify(chain)
    tokenizer = hypernet.unit_tokens(classifier, shapes, X)
    assert tokenizer.hidden == (*chain.convolutions, *chain.features)
    params = jax.tree.map(
        lambda leaf: np.resize(np.float32(values), leaf.shape),
        shapes["params"],
    )
    back = jax.jit(tokenizer.detokenize)(jax.jit(tokenizer.tokenize)(params))
    assert_same_bits(back, params)


@settings(max_examples=10)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    size=st.integers(1, 10),
)
def test_chunks_never_mix_leaves(shapes, size):
    params = [np.float32(i + np.zeros(shape)) for i, shape in enumerate(shapes)]
    tokenizer = hypernet.chunk_tokens(params, size)
    got = tokenizer.tokenize(params)
    assert all(len(np.unique(chunk)) == 1 for chunk in got)
    assert all(0 < chunk.shape[1] <= size for chunk in got)
    assert len(got) == sum(-(-leaf.size // size) for leaf in params)
    assert_same_bits(tokenizer.detokenize(got), params)


def test_chunks_are_those_of_gpt():
    """Its MNIST network in chunks of 1000, Flax's leaves in Flax's order."""
    classifier = hf.from_linen(MLP((10,)))
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    shapes = jax.eval_shape(classifier.init, jax.random.key(0), x)
    tokenizer = hypernet.tokenizer(classifier, shapes, x, "chunks")
    widths = [group.width for group in tokenizer.groups]
    assert widths == [10, *[1000] * 7, 840, 10, 100]
    assert tokenizer.groups[4] == Group("Dense_0/kernel[3]", 1, 1000)
    assert tokenizer.permute is None and tokenizer.hidden == ()


def test_the_token_of_a_unit_is_what_it_reads_its_bias_and_what_reads_it():
    _, tokenizer, params = network("flattened")
    first, second, dense, head = (
        params[name] for name in ("Conv_0", "Conv_1", "Dense_0", "Dense_1")
    )
    read = dense["kernel"].reshape(-1, 4, 5)
    expected = {
        "Conv_0": (3, first, lambda unit: second["kernel"][:, :, unit]),
        "Conv_1": (4, second, lambda unit: read[:, unit]),
        "Dense_0": (5, dense, lambda unit: head["kernel"][unit]),
    }
    got = tokenizer.tokenize(params)
    for group, tokens_of, (name, (count, layer, outgoing)) in zip(
        tokenizer.groups[:-1], got[:-1], expected.items(), strict=True
    ):
        assert (group.name, group.count) == (name, count)
        for unit, token in enumerate(tokens_of):
            parts = layer["kernel"][..., unit], layer["bias"][unit], outgoing(unit)
            np.testing.assert_array_equal(
                token, np.concatenate([np.ravel(part) for part in parts])
            )
    assert tokenizer.groups[-1] == Group("output bias", 1, 3)
    np.testing.assert_array_equal(got[-1], head["bias"][None])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_stands_in_a_token(name):
    """Once, and a weight between two hidden layers twice."""
    _, tokenizer, params = network(name)
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    numbered = structure.unflatten(
        np.float32(np.arange(end - leaf.size, end).reshape(leaf.shape))
        for leaf, end in zip(leaves, ends, strict=True)
    )
    numbered_tokens = jax.jit(tokenizer.tokenize)(numbered)
    got = np.concatenate([np.ravel(group) for group in numbered_tokens])
    values, times = np.unique(got, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(ends[-1]))

    # Where it stands twice each has half of the gradient, also where both agree.
    @jax.jit
    @jax.grad
    def differentiate(tokens):
        return sum(map(jnp.sum, jax.tree.leaves(tokenizer.detokenize(tokens))))

    gradient = differentiate(numbered_tokens)
    chex.assert_trees_all_equal_shapes(gradient, numbered_tokens)
    got_gradient = np.concatenate([np.ravel(group) for group in gradient])
    np.testing.assert_array_equal(got_gradient, 1 / times[np.int64(got)])
    between = len(tokenizer.hidden) > 1
    assert times.max() == (2 if between else 1)


def test_predictions_that_disagree_are_averaged():
    _, tokenizer, params = network("deep perceptron")
    others = draw(params, 1)
    one, other = map(jax.jit(tokenizer.tokenize), (params, others))
    got = jax.jit(tokenizer.detokenize)((one[0], *other[1:]))
    kernel, another = (tree["Dense_1"]["kernel"] for tree in (params, others))
    np.testing.assert_array_equal(got["Dense_1"]["kernel"], (kernel + another) / 2)


@pytest.mark.parametrize("name", UNITS)
def test_permuting_units_permutes_tokens_and_leaves_the_function(name):
    classifier, tokenizer, params = network(name)
    x = np.float32(np.random.default_rng(1).normal(size=(3, *X.shape[1:])))
    apply = jax.jit(lambda params: classifier.apply({"params": params}, x))
    random = np.random.default_rng(0)
    still = [np.arange(units) for units in tokenizer.hidden]
    tokenize, permute = jax.jit(tokenizer.tokenize), jax.jit(tokenizer.permute)
    old = tokenize(params)
    for layer, units in enumerate(tokenizer.hidden):
        orders = list(still)
        orders[layer] = random.permutation(units)
        new = tokenize(permute(params, tuple(orders)))
        for group, (before, after) in enumerate(zip(old, new, strict=True)):
            last = group == len(tokenizer.hidden)
            if group == layer:
                np.testing.assert_array_equal(after, before[orders[layer]])
            elif abs(group - layer) > 1 or last:
                np.testing.assert_array_equal(after, before)
            else:  # A neighbour's tokens stay, their entries change places.
                np.testing.assert_array_equal(np.sort(after), np.sort(before))
    orders = [random.permutation(units) for units in tokenizer.hidden]
    permuted = permute(params, tuple(orders))
    expected = apply(params)
    scale = float(jnp.abs(expected).max())
    tolerance = 0.1 if name == "half precision" else 1e-4
    np.testing.assert_allclose(apply(permuted), expected, atol=tolerance * scale)
    back = permute(permuted, tuple(map(np.argsort, orders)))
    assert_same_bits(back, params)


def test_layers_are_in_the_order_of_their_calls():
    """By name, or out of a compiled function, the tenth would precede the second."""
    classifier, shapes = classify(MLP((2,) * 11))
    classifier = classifier._replace(taps=jax.jit(classifier.taps))
    tokenizer = hypernet.unit_tokens(classifier, shapes, X)
    names = [group.name for group in tokenizer.groups]
    assert names == [*(f"Dense_{i}" for i in range(11)), "output bias"]


REFUSED = {
    "residual": "units of layer 'Dense_0' changes the logits",
    "again": "layer 'Dense_1' is called 2 times",
    "groups": "layer 'Conv_0' has 2 feature groups",
    "norm": "its parameter 'LayerNorm_0/bias' is no kernel or bias",
    "batch": "its parameter 'BatchNorm_0/bias' is no kernel or bias",
    "bare batch": r"its variables hold \['batch_stats'\] beside 'params'",
    "mixed": "units of layer 'Dense_1' changes the logits",
    "narrow": "units of layer 'Dense_1' changes the logits",
    "deaf": "random inputs make no difference to its logits",
    "heads": "'Dense_2' reads 3 numbers, no multiple of the 6 units of 'Dense_1'",
    "wider": "'Dense_2' reads 7 numbers, no multiple of the 6 units of 'Dense_1'",
    "scanned": "no unit tokens",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_not_sequential_is_refused_and_has_chunks(change):
    classifier, shapes = classify(Between(change), "batch" in change)
    for refused in (
        hypernet.unit_tokens,
        functools.partial(hypernet.tokenizer, kind="units"),
    ):
        with pytest.raises(ValueError, match=REFUSED[change]) as caught:
            refused(classifier, shapes, X)
        assert "chunk_tokens takes any" in str(caught.value)
    tokenizer = hypernet.tokenizer(classifier, shapes, X, size=7)
    assert tokenizer.kind == "chunks"
    params = draw(shapes["params"])
    assert_same_bits(tokenizer.detokenize(tokenizer.tokenize(params)), params)


def test_what_has_no_taps_has_chunks():
    classifier, shapes = classify(MLP((5,)))
    classifier = classifier._replace(taps=None)
    with pytest.raises(ValueError, match="it has no taps"):
        hypernet.unit_tokens(classifier, shapes, X)
    assert hypernet.tokenizer(classifier, shapes, X).kind == "chunks"
    with pytest.raises(ValueError, match="kind must be one of"):
        hypernet.tokenizer(classifier, shapes, X, "unit")


def test_concrete_variables_and_a_mask_do_as_well():
    classifier, data = toys.perceptron(), toys.points()
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    variables = {**variables, hf.base.OUTPUT_MASK: jnp.ones(4, bool)}
    assert hypernet.tokenizer(classifier, variables, data.x).hidden == (5,)


def test_errors_say_what_was_given():
    classifier, _, params = network("perceptron")
    variables = {"params": params}
    with pytest.raises(ValueError, match="x must be floating point, got dtype int32"):
        hypernet.unit_tokens(classifier, variables, jnp.zeros((1, 8, 8, 2), jnp.int32))
    whole = hypernet.tokenizer(
        classifier, variables, jnp.zeros((1, 8, 8, 2), jnp.int32)
    )
    assert whole.kind == "chunks"
    with pytest.raises(ValueError, match="floating-point arrays, got int32 for 'a'"):
        hypernet.chunk_tokens({"a": jnp.zeros(2, jnp.int32)})
    with pytest.raises(
        ValueError, match="floating-point arrays, got .*float.* for 'a'"
    ):
        hypernet.chunk_tokens({"a": 1.0})


SCALES = jax.jit(scales.power_of_two_scales)


class Scales(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_are_powers_of_two(self):
        exponents = range(-20, 21)
        signs = np.resize([1, -1], (6, 3))
        # Anything that is nearer than half an octave.
        for factor in (1.0, 0.75, 1.4):
            params = [np.float32(factor * signs * 2.0**k) for k in exponents]
            got = self.variant(scales.power_of_two_scales)(params)
            chex.assert_trees_all_equal(got, [np.float32(2.0**k) for k in exponents])

    @chex.variants(with_jit=True, without_jit=True)
    def test_are_one_where_there_is_no_size(self):
        params = [np.zeros(3), np.full(2, np.inf), np.array([1, np.nan]), np.zeros(0)]
        params = [jnp.asarray(leaf, jnp.float32) for leaf in params]
        got = self.variant(scales.power_of_two_scales)(params)
        chex.assert_trees_all_equal(got, [np.float32(1)] * 4)

    def test_know_sizes_whose_squares_are_out_of_range(self):
        params = [np.full(2, 2.0**100, np.float32), np.full(2, 2.0**-100, np.float32)]
        got = scales.power_of_two_scales(params)
        chex.assert_trees_all_equal(got, [np.float32(2.0**100), np.float32(2.0**-100)])


# Far enough from the subnormal numbers to be divided by anything below.
numbers = st.floats(2.0**-90, 1e6, width=32)
signed = st.sampled_from([0.0, -0.0]) | numbers | numbers.map(lambda number: -number)


@given(leaf=st.lists(signed, min_size=6, max_size=6), exponent=st.integers(-20, 20))
def test_scaling_down_and_up_costs_no_bit(leaf, exponent):
    params = {"a": jnp.asarray(leaf, jnp.float32)}
    for by in (SCALES(params), {"a": np.float32(2.0**exponent)}):
        assert_same_bits(optax.tree.mul(optax.tree.div(params, by), by), params)


def test_scaled_leaves_are_of_size_one():
    random = np.random.default_rng(0)
    params = {str(k): np.float32(10.0**k * random.normal(size=99)) for k in (-3, 0, 3)}
    own = SCALES(params)
    down = optax.tree.div(params, own)
    for leaf in down.values():
        assert 2**-0.51 < np.sqrt(np.mean(np.square(leaf))) < 2**0.51
