"""Every way to squared gradients against single gradients in float64 sums."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import trees
from tests import toys

ROWS = 10
VECTORS = jax.random.normal(jax.random.key(1), (ROWS, 6))
IMAGES = jax.random.normal(jax.random.key(2), (ROWS, 5, 6, 2))
LINES = jax.random.normal(jax.random.key(3), (ROWS, 5, 4))
Y = jnp.arange(ROWS) % toys.NUM_CLASSES
# Three microbatches of which the last is short; some rows are absent, some repeated.
WEIGHT = jnp.arange(ROWS) % 3
# Float32 sums over places and rows in another order.
CLOSE = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-9)
NUM_CLASSES = toys.NUM_CLASSES


class Geometry(nn.Module):
    """Strides, dilation, all kinds of padding; one layer with a bias, one without."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(3, (3, 2), strides=(2, 1), padding=((0, 1), (2, 0)))(x)
        x = nn.Conv(2, (2, 2), kernel_dilation=(1, 2), use_bias=False)(nn.tanh(x))
        x = nn.Conv(3, (2, 3), padding="VALID", strides=2)(nn.tanh(x))
        return nn.Dense(NUM_CLASSES)(x.reshape(x.shape[0], -1))


class Grouped(nn.Module):
    """A convolution in groups, which goes the slow way, beside one that does not."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (2, 2), feature_group_count=2)(x)
        x = nn.Conv(3, (1, 1))(nn.tanh(x))
        return nn.Dense(NUM_CLASSES)(jnp.mean(x, axis=(1, 2)))


class Shared(nn.Module):
    """A layer called twice, then a layer at many places, then no head at the end."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6)
        x = nn.tanh(layer(nn.tanh(layer(x))))
        x = nn.tanh(nn.Dense(3)(x.reshape(x.shape[0], 3, 2)))
        return nn.Dense(NUM_CLASSES)(jnp.mean(x, axis=1)) / 2


class Turned(nn.Module):
    """Rows on the second axis, and as many places as rows in a microbatch."""

    @nn.compact
    def __call__(self, x):
        x = jnp.stack([x, 2 * x, -x, 3 * x])
        x = nn.tanh(nn.Dense(3)(x))
        return nn.Dense(NUM_CLASSES)(jnp.mean(x, axis=0))


class Attending(nn.Module):
    """Kernels of three axes and more, without a bias too, and a head of them."""

    @nn.compact
    def __call__(self, x):
        x = nn.MultiHeadDotProductAttention(2, qkv_features=6, name="attention")(x)
        x = nn.tanh(nn.DenseGeneral((2, 3), use_bias=False, name="wide")(nn.tanh(x)))
        return nn.DenseGeneral(NUM_CLASSES, axis=(-3, -2, -1), name="head")(x)


class Tied(nn.Module):
    """A kernel that is read outside its layer too."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(5)
        x = nn.tanh(layer(x)) @ layer.variables["params"]["kernel"].T
        return nn.Dense(NUM_CLASSES)(nn.tanh(x))


class Lifted(nn.Module):
    """Layers inside a transformation of Flax's, beside one outside."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(NUM_CLASSES)(nn.remat(hf.models.MLP)((3,), 4)(x))


def conv_net():
    return hf.from_linen(toys.ConvNet(), train={"train": True}, eval={"train": False})


# name: classifier, inputs, layers whose gradients come from their taps
WORLDS = {
    "softmax regression": (toys.softmax_regression, VECTORS, {"Dense_0"}),
    "perceptron": (toys.perceptron, VECTORS, {"Dense_0", "Dense_1"}),
    "ConvNet": (conv_net, IMAGES, {"Conv_0", "Conv_1", "Dense_0"}),
    "geometry": (
        lambda: hf.from_linen(Geometry()),
        IMAGES,
        {"Conv_0", "Conv_1", "Conv_2", "Dense_0"},
    ),
    "grouped": (
        lambda: hf.from_linen(Grouped()),
        IMAGES,
        {"Conv_0", "Conv_1", "Dense_0"},
    ),
    "shared": (
        lambda: hf.from_linen(Shared()),
        VECTORS,
        {"Dense_0", "Dense_1", "Dense_2"},
    ),
    "turned": (lambda: hf.from_linen(Turned()), VECTORS, {"Dense_0", "Dense_1"}),
    "attending": (
        lambda: hf.from_linen(Attending()),
        LINES,
        {
            *(f"attention/{name}" for name in ("query", "key", "value", "out")),
            *("wide", "head"),
        },
    ),
    "tied": (lambda: hf.from_linen(Tied()), VECTORS, {"Dense_1"}),
    "lifted": (
        lambda: hf.from_linen(Lifted()),
        VECTORS,
        {"Dense_0", "CheckpointMLP_0/Dense_0", "CheckpointMLP_0/Dense_1"},
    ),
}


@functools.cache
def world(name):
    """Classifier, drawn variables, data, and single gradients ``[C, N, ...]``."""
    make, x, _ = WORLDS[name]
    classifier = make()
    shapes = jax.eval_shape(classifier.init, jax.random.key(0), x)
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.float32(0.3 * random.normal(size=leaf.shape)), shapes
    )
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(
            lambda leaf: np.square(leaf) + 1, variables["batch_stats"]
        )
    return classifier, variables, hf.Examples(x, Y, WEIGHT, jnp.arange(ROWS))


def by_hand(classifier, variables, data):
    """The mean of squared single gradients, in float64."""

    def log_likelihood(params, x, y):
        logits = classifier.apply({**variables, "params": params}, x[None])
        return jax.nn.log_softmax(logits)[0, y]

    gradient = jax.jit(jax.vmap(jax.grad(log_likelihood), (None, 0, 0)))
    weight = np.float64(data.weight) / np.sum(data.weight)
    return jax.tree.map(
        lambda g: np.einsum("n,n...->...", weight, np.float64(g) ** 2),
        gradient(variables["params"], data.x, data.y),
    )


def measured(classifier, scope=None):
    return functools.partial(hf.fisher.diagonal, classifier, scope=scope, batch_size=4)


@pytest.mark.parametrize("name", WORLDS)
def test_equals_single_gradients(name):
    classifier, variables, data = world(name)
    taps = jax.eval_shape(lambda v: classifier.tapped(v, data.x, {})[1], variables)
    assert set(taps) == WORLDS[name][2]
    got = jax.jit(measured(classifier))(variables, data).values
    chex.assert_trees_all_equal_shapes_and_dtypes(got, variables["params"])
    CLOSE(got, by_hand(classifier, variables, data))


class HeadTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_the_head_alone(self):
        for name, head in (("perceptron", "Dense_1"), ("attending", "head")):
            classifier, variables, data = world(name)
            expected = by_hand(classifier, variables, data)
            got = self.variant(measured(classifier, (head,)))(variables, data)
            CLOSE(got.values, trees.restrict(expected, (head,)))


def test_the_head_alone_needs_no_backward_pass():
    classifier, variables, data = world("perceptron")

    def products(scope):
        jaxpr = jax.make_jaxpr(measured(classifier, scope))(variables, data)
        return str(jaxpr).count("dot_general[")

    # Two layers and the head's squares.
    assert products(("Dense_1",)) == 3
    # Two layers, two squares, and the head's transpose.
    assert products(None) == 5


def test_where_the_label_is_certain_hidden_layers_keep_their_precision():
    classifier, variables, data = world("perceptron")
    params = variables["params"]
    head = {**params["Dense_1"], "kernel": 128 * params["Dense_1"]["kernel"]}
    sure = {"params": {**params, "Dense_1": head}}
    logits = np.asarray(classifier.apply(sure, data.x))
    p = jax.nn.softmax(logits)
    # Examples of which float32 says that the label's probability is one.
    certain = jnp.max(p, axis=1) == 1
    assert jnp.sum(certain) >= 2
    known = data._replace(
        y=jnp.argmax(logits, axis=1).astype(jnp.int32),
        weight=jnp.where(certain, 1 + WEIGHT, 0),
    )
    fast, slow = (
        jax.jit(functools.partial(hf.fisher.diagonal, one, batch_size=4))(
            sure, known
        ).values
        for one in (classifier, classifier._replace(tapped=None))
    )
    assert all((leaf > 0).any() for leaf in jax.tree.leaves(fast))
    # Squares of exp(-m): twice m units in the last place. What is below the smallest
    # normal number is lost in other places.
    chex.assert_trees_all_close(fast, slow, rtol=1e-5, atol=1e-37)


def test_masked_classes_have_no_gradient():
    """Their logits are constants; also where a label is a masked class."""
    classifier, variables, data = world("perceptron")
    mask = jnp.array([False, True, False, False])
    masked = {**variables, "output_mask": mask}
    expected = by_hand(classifier, masked, data)
    for scope in (None, ("Dense_1",)):
        got = jax.jit(measured(classifier, scope))(masked, data).values
        assert (got["Dense_1"]["kernel"][:, 1] == 0).all()
        assert (got["Dense_1"]["bias"][1] == 0).all()
        CLOSE(got, expected if scope is None else trees.restrict(expected, scope))


def test_many_models_are_a_vmap():
    classifier, variables, data = world("perceptron")
    models = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), variables)
    measure = jax.jit(
        jax.vmap(
            functools.partial(hf.fisher.diagonal, classifier, batch_size=4), (0, None)
        )
    )
    got = measure(models, data)
    for index in range(2):
        one = jax.tree.map(lambda leaf, at=index: leaf[at], models)
        expected = by_hand(classifier, one, data)
        CLOSE(jax.tree.map(lambda leaf, at=index: leaf[at], got.values), expected)


@pytest.mark.parametrize("adapter", ["functions", "nnx"])
def test_models_without_taps_go_example_by_example(adapter):
    from flax import nnx

    if adapter == "nnx":
        classifier = hf.from_nnx(lambda rngs: nnx.Linear(6, NUM_CLASSES, rngs=rngs))
    else:
        # Parameters may be any pytree where there is no scope.
        classifier = hf.from_functions(
            lambda key, x: [jax.random.normal(key, (6, NUM_CLASSES))],
            lambda params, x: x @ params[0],
        )
    variables = classifier.init(jax.random.key(0), VECTORS)
    data = hf.Examples(VECTORS, Y, WEIGHT, jnp.arange(ROWS))
    got = jax.jit(measured(classifier))(variables, data)
    CLOSE(got.values, by_hand(classifier, variables, data))
