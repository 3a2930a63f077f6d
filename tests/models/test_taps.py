"""Taps are what the layers were given: with the parameters they give the outputs."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hyperforget_jax as hf
from tests import toys

IMAGES = jax.random.normal(jax.random.key(0), (3, 6, 7, 4))
VECTORS = jax.random.normal(jax.random.key(1), (3, 6))
LINES = jax.random.normal(jax.random.key(2), (3, 9, 4))
# The same float32 sums in another order.
CLOSE = dict(rtol=1e-5, atol=1e-5)
_NUMBERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


def at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


def parameter_paths(params, path=()):
    """Paths of everything that has a kernel."""
    if "kernel" in params:
        return {"/".join(path)}
    nested = {name: leaf for name, leaf in params.items() if isinstance(leaf, dict)}
    return set().union(*(parameter_paths(p, (*path, n)) for n, p in nested.items()))


def layer_output(tap, layer):
    """A layer from nothing but its parameters and its tap."""
    if tap.kind == "dense":
        out = tap.input @ layer["kernel"].reshape(tap.input.shape[-1], -1)
    else:
        out = lax.conv_general_dilated(
            tap.input,
            layer["kernel"],
            tap.strides,
            tap.padding,
            rhs_dilation=tap.dilation,
            feature_group_count=tap.groups,
            dimension_numbers=_NUMBERS[len(tap.strides)],
        )
    bias = layer.get("bias", jnp.zeros(out.shape[-1]))
    return (out + bias.reshape(*[1] * (out.ndim - 1), -1)).reshape(tap.output_shape)


def drawn(shapes):
    """Small normal numbers of the given shapes, without a compilation."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.float32(0.3 * random.normal(size=leaf.shape)), shapes
    )


def check(module, x, variables=None, **options):
    """Every layer's every call, rebuilt from its tap, is what Flax captured."""
    classifier = hf.from_linen(module, eval=options)
    if variables is None:
        variables = drawn(jax.eval_shape(classifier.init, jax.random.key(0), x))

    @jax.jit
    def measure(variables, x):
        taps = classifier.taps(variables, x)
        rebuilt = {
            path: [layer_output(tap, at(variables["params"], path)) for tap in calls]
            for path, calls in taps.items()
        }
        _, kept = module.apply(variables, x, capture_intermediates=True, **options)
        return taps, rebuilt, kept["intermediates"]

    taps, rebuilt, kept = measure(variables, x)
    assert set(taps) == parameter_paths(variables["params"])
    for path, outputs in rebuilt.items():
        captured = at(kept, path)["__call__"]
        assert len(outputs) == len(captured)
        for out, expected in zip(outputs, captured, strict=True):
            np.testing.assert_allclose(out, expected, **CLOSE)
    return taps


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.features, (3, 3))(x))
        return nn.Dense(self.features, use_bias=False)(x)


class Nested(nn.Module):
    def setup(self):
        self.blocks = [Block(4), Block(2)]
        self.head = nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(4)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6, name="twice")
        return nn.Dense(toys.NUM_CLASSES, name="once")(inputs=layer(nn.relu(layer(x))))


class Attending(nn.Module):
    """Self-attention of two heads of three features, then one kernel for all places."""

    @nn.compact
    def __call__(self, x):
        x = nn.MultiHeadDotProductAttention(2, qkv_features=6, name="attention")(x)
        return nn.DenseGeneral(toys.NUM_CLASSES, axis=(-2, -1), name="head")(x)


def test_dense_layers():
    taps = check(hf.models.MLP((5,), toys.NUM_CLASSES), VECTORS)
    (first,), (second,) = taps["Dense_0"], taps["Dense_1"]
    assert (first.kind, second.kind) == ("dense", "dense")
    np.testing.assert_array_equal(first.input, VECTORS)
    assert second.input.shape == (3, 5) and (second.input >= 0).all()


def test_nested_modules_have_the_paths_of_their_parameters():
    taps = check(Nested(), IMAGES)
    assert set(taps) == {
        "blocks_0/Conv_0",
        "blocks_0/Dense_0",
        "blocks_1/Conv_0",
        "blocks_1/Dense_0",
        "head/layers_0",
        "head/layers_2",
    }


def test_a_layer_called_twice_has_two_taps_in_order():
    taps = check(Shared(), VECTORS)
    first, second = taps["twice"]
    np.testing.assert_array_equal(first.input, VECTORS)
    assert (second.input >= 0).all() and len(taps["once"]) == 1


def test_attention_has_a_tap_for_each_projection():
    taps = check(Attending(), LINES)
    assert {path: tap.output_shape for path, (tap,) in taps.items()} == {
        "attention/query": (3, 9, 2, 3),
        "attention/key": (3, 9, 2, 3),
        "attention/value": (3, 9, 2, 3),
        "attention/out": (3, 9, 4),
        "head": (3, 4),
    }
    for name in ("query", "key", "value"):
        np.testing.assert_array_equal(taps[f"attention/{name}"][0].input, LINES)
    assert taps["attention/out"][0].input.shape == (3, 9, 6)
    assert taps["head"][0].input.shape == (3, 36)


@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated")
@pytest.mark.parametrize(
    "module", [nn.SelfAttention(2), nn.MultiHeadAttention(2)], ids=["self", "multi"]
)
def test_other_names_of_attention(module):
    taps = check(nn.Sequential([module, nn.Dense(2)]), LINES)
    projections = {f"layers_0/{name}" for name in ("query", "key", "value", "out")}
    assert set(taps) == {*projections, "layers_1"}


@pytest.mark.parametrize(
    ("layer", "x", "seen", "given"),
    [
        (nn.DenseGeneral(5), LINES, (3, 9, 4), (3, 9, 5)),
        (nn.DenseGeneral((2, 3)), LINES, (3, 9, 4), (3, 9, 2, 3)),
        (nn.DenseGeneral(5, axis=(-2, -1)), LINES, (3, 36), (3, 5)),
        # Flax sorts the axes.
        (nn.DenseGeneral((2, 1), axis=(-1, -2)), LINES, (3, 36), (3, 2, 1)),
        (
            nn.DenseGeneral((2, 3), axis=(2, 3), use_bias=False),
            IMAGES,
            (3, 6, 28),
            (3, 6, 2, 3),
        ),
        (nn.DenseGeneral(2, axis=(-3, 2, -1)), IMAGES, (3, 168), (3, 2)),
    ],
    ids=["one", "many features", "two axes", "turned", "positive", "three axes"],
)
def test_dense_layers_of_several_axes(layer, x, seen, given):
    taps = check(nn.Sequential([layer]), x)
    (tap,) = taps["layers_0"]
    assert (tap.kind, tap.input.shape, tap.output_shape) == ("dense", seen, given)


def test_shipped_networks():
    taps = check(hf.models.GptCNN(), jnp.tile(IMAGES[..., :3], (1, 2, 2, 1)))
    assert taps["Conv_0"][0].strides == (2, 2)
    assert taps["Conv_0"][0].padding == ((1, 1), (1, 1))


def test_batch_norm_is_in_evaluation_mode():
    module = toys.ConvNet(features=(3, 5))
    init = functools.partial(module.init, train=False)
    variables = drawn(jax.eval_shape(init, jax.random.key(0), IMAGES))
    variables["batch_stats"] = {
        name: {"mean": np.float32([0.5] * width), "var": np.float32([1.5] * width)}
        for name, width in (("BatchNorm_0", 3), ("BatchNorm_1", 5))
    }
    taps = check(module, IMAGES, variables, train=False)
    out = layer_output(taps["Conv_0"][0], variables["params"]["Conv_0"])
    # The running statistics give what the next layer saw, not the batch's.
    norm = variables["params"]["BatchNorm_0"]
    scaled = (np.asarray(out) - 0.5) / np.sqrt(1.5 + 1e-5) * norm["scale"]
    expected = np.maximum(scaled + norm["bias"], 0)
    np.testing.assert_allclose(taps["Conv_1"][0].input, expected, **CLOSE)


# name: layer, input, then strides, padding, dilation and groups of its tap.
SAME = ((1, 1), (1, 1))
CONVOLUTIONS = {
    "default": (nn.Conv(2, (3, 3)), IMAGES, (1, 1), SAME, (1, 1), 1),
    # Six pixels by three: two outputs, no padding. Seven: three outputs, two pixels.
    "same, strided": (
        nn.Conv(2, (3, 3), strides=3, padding="same"),
        IMAGES,
        (3, 3),
        ((0, 0), (1, 1)),
        (1, 1),
        1,
    ),
    "valid": (
        nn.Conv(2, (2, 3), strides=(2, 1), padding="VALID"),
        IMAGES,
        (2, 1),
        ((0, 0), (0, 0)),
        (1, 1),
        1,
    ),
    "number": (
        nn.Conv(2, (3, 3), padding=2),
        IMAGES,
        (1, 1),
        ((2, 2), (2, 2)),
        (1, 1),
        1,
    ),
    "numbers": (
        nn.Conv(2, (3, 3), padding=(0, 2)),
        IMAGES,
        (1, 1),
        ((0, 0), (2, 2)),
        (1, 1),
        1,
    ),
    "pairs": (
        nn.Conv(2, (3, 3), padding=[(0, 1), (3, 0)], use_bias=False),
        IMAGES,
        (1, 1),
        ((0, 1), (3, 0)),
        (1, 1),
        1,
    ),
    "mixed": (
        nn.Conv(2, (3, 3), padding=(1, (0, 2))),
        IMAGES,
        (1, 1),
        ((1, 1), (0, 2)),
        (1, 1),
        1,
    ),
    "dilated": (
        nn.Conv(2, (3, 3), kernel_dilation=(2, 1)),
        IMAGES,
        (1, 1),
        ((2, 2), (1, 1)),
        (2, 1),
        1,
    ),
    "grouped": (
        nn.Conv(6, (3, 3), feature_group_count=2),
        IMAGES,
        (1, 1),
        SAME,
        (1, 1),
        2,
    ),
    "line": (
        nn.Conv(2, 3, strides=2, padding=((2, 0),)),
        LINES,
        (2,),
        ((2, 0),),
        (1,),
        1,
    ),
    "ours": (
        nn.Conv(2, (3, 3), strides=2, conv_general_dilated=hf.models.conv),
        IMAGES,
        (2, 2),
        ((0, 1), (1, 1)),
        (1, 1),
        1,
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    layer, x, *geometry = CONVOLUTIONS[name]
    taps = check(nn.Sequential([layer]), x)
    (tap,) = taps["layers_0"]
    assert tap.kind == "conv"
    assert [tap.strides, tap.padding, tap.dilation, tap.groups] == geometry


@pytest.mark.parametrize(
    ("layer", "x", "what"),
    [
        (nn.Conv(2, (3, 3), padding="CIRCULAR"), IMAGES, "padding='CIRCULAR'"),
        (nn.Conv(2, (3, 3), padding="REFLECT"), IMAGES, "padding='REFLECT'"),
        (nn.Conv(2, (3, 3), padding="SAME_LOWER"), IMAGES, "padding='SAME_LOWER'"),
        (nn.Conv(2, 3, padding="CAUSAL"), LINES, "padding='CAUSAL'"),
        (nn.Conv(2, 3, padding=2, input_dilation=2), LINES, "input_dilation=2"),
        (nn.DenseGeneral(2, axis=1), LINES, "axis=1 and"),
        (nn.DenseGeneral(2, axis=(1, 3)), IMAGES, r"axis=\(1, 3\) and"),
        (nn.DenseGeneral(2, axis=(0, 1)), VECTORS[:1], r"axis=\(0, 1\) and"),
        (
            nn.DenseGeneral(2, batch_dims=(0,)),
            LINES[:1],
            r"axis=-1 and batch_dims=\(0,\)",
        ),
    ],
    ids=[
        "circular",
        "reflect",
        "same lower",
        "causal",
        "transposed",
        "middle axis",
        "parted axes",
        "rows too",
        "batch",
    ],
)
def test_other_geometries_are_refused_by_the_layers_name(layer, x, what):
    classifier = hf.from_linen(nn.Sequential([nn.relu, layer]))
    variables = jax.eval_shape(classifier.init, jax.random.key(0), x)
    with pytest.raises(ValueError, match=f"Layer layers_1 has {what}"):
        jax.eval_shape(classifier.taps, variables, x)


def test_an_output_mask_among_the_variables_changes_no_tap():
    classifier = toys.softmax_regression()
    variables = drawn(jax.eval_shape(classifier.init, jax.random.key(0), VECTORS))
    mask = jnp.array([True, False, False, False])
    masked = classifier.taps({**variables, "output_mask": mask}, VECTORS)
    np.testing.assert_array_equal(masked["Dense_0"][0].input, VECTORS)


def test_taps_are_a_pytree_that_vmaps_over_models():
    classifier = toys.perceptron()
    one = drawn(jax.eval_shape(classifier.init, jax.random.key(0), VECTORS))
    models = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), one)
    taps = jax.jit(jax.vmap(classifier.taps, (0, None)))(models, VECTORS)
    assert taps["Dense_1"][0].input.shape == (2, 3, 5)


class Scaled(nn.Dense):
    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


class ScaledGeneral(nn.DenseGeneral):
    def __call__(self, inputs):
        return 2 * super().__call__(inputs)


class Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(5)
        x = layer(x) @ layer.variables["params"]["kernel"].T
        return nn.Dense(4)(nn.remat(nn.Dense)(3)(x))


@functools.cache
def shifted(module, lines=False):
    """A module's classifier, drawn variables, and its tapped form, jitted."""
    classifier = hf.from_linen(module)
    x = LINES if lines else VECTORS
    variables = drawn(jax.eval_shape(classifier.init, jax.random.key(0), x))
    return classifier, variables, jax.jit(classifier.tapped)


def test_without_shifts_nothing_changes():
    classifier, variables, tapped = shifted(hf.models.MLP((5,), toys.NUM_CLASSES))
    logits, taps = tapped(variables, VECTORS, {})
    np.testing.assert_allclose(logits, classifier.apply(variables, VECTORS), **CLOSE)
    expected = classifier.taps(variables, VECTORS)
    for path, (tap,) in taps.items():
        np.testing.assert_allclose(tap.input, expected[path][0].input, **CLOSE)
    assert taps["Dense_0"][0].output_shape == (3, 5)
    assert [taps[f"Dense_{i}"][0].gives_logits for i in (0, 1)] == [False, True]


class Backwards(nn.Module):
    """Called in another order than that of their names, one of them twice."""

    @nn.compact
    def __call__(self, x):
        last = nn.Dense(6, name="a")
        return last(nn.Dense(6, name="b")(last(nn.Dense(6, name="c")(x)))) + 0


def test_taps_know_their_order_under_a_trace():
    classifier, variables, tapped = shifted(Backwards())
    for taps in (
        tapped(variables, VECTORS, {})[1],
        classifier.taps(variables, VECTORS),
    ):
        order = {path: [tap.call for tap in calls] for path, calls in taps.items()}
        assert order == {"c": [0], "a": [1, 3], "b": [2]}


def test_a_shift_is_added_to_its_call_alone():
    classifier, variables, tapped = shifted(Shared())
    first, second = (np.float32(at) * np.ones((3, 6), np.float32) for at in (1, 3))
    logits, taps = tapped(variables, VECTORS, {"twice": (first, second)})
    assert set(taps) == {"twice"}

    def layer(name, x):
        params = variables["params"][name]
        return x @ params["kernel"] + params["bias"].reshape(1, -1)

    once = layer("twice", VECTORS) + first
    np.testing.assert_allclose(taps["twice"][1].input, nn.relu(once), **CLOSE)
    expected = layer("once", layer("twice", nn.relu(once)) + second)
    np.testing.assert_allclose(logits, expected, **CLOSE)


def test_a_shift_of_a_projection_has_the_shape_of_its_output():
    classifier, variables, tapped = shifted(Attending(), lines=True)
    shift = np.float32(np.random.default_rng(1).normal(size=(2, 3)))
    wide = np.broadcast_to(shift, (3, 9, 2, 3))
    logits, taps = tapped(variables, LINES, {"attention/query": (wide,)})
    assert set(taps) == {"attention/query"}
    params = variables["params"]
    query = params["attention"]["query"]
    query = {**query, "bias": query["bias"] + shift}
    moved = {**params, "attention": {**params["attention"], "query": query}}
    expected = classifier.apply({"params": moved}, LINES)
    np.testing.assert_allclose(logits, expected, **CLOSE)
    assert not np.allclose(logits, classifier.apply(variables, LINES))


def test_a_dense_layer_of_several_axes_may_give_the_logits():
    _, variables, tapped = shifted(Attending(), lines=True)
    _, taps = tapped(variables, LINES, {})
    assert [path for path, (tap,) in taps.items() if tap.gives_logits] == ["head"]


def test_a_masked_class_has_no_gradient_with_respect_to_a_shift():
    classifier, variables, _ = shifted(hf.models.MLP((), toys.NUM_CLASSES))
    mask = jnp.array([True, False, False, False])
    gradient = jax.grad(
        lambda shift: classifier.tapped(
            {**variables, "output_mask": mask}, VECTORS, {"Dense_0": (shift,)}
        )[0].sum()
    )(jnp.zeros((3, 4)))
    np.testing.assert_array_equal(gradient, np.float32([[0, 1, 1, 1]] * 3))


@pytest.mark.parametrize(
    ("module", "x", "known"),
    [
        (Tied(), VECTORS, {"CheckpointDense_0", "Dense_1"}),
        (nn.Sequential([Scaled(5), nn.Dense(4)]), VECTORS, {"layers_1"}),
        (
            nn.Sequential([nn.Conv(2, (3, 3), padding="CIRCULAR"), nn.Dense(4)]),
            IMAGES,
            {"layers_1"},
        ),
        (
            nn.Sequential([nn.Conv(2, (1, 1), mask=jnp.ones((1, 1, 4, 2)))]),
            IMAGES,
            set(),
        ),
        (nn.Sequential([nn.DenseGeneral(2, axis=1), nn.Dense(4)]), LINES, {"layers_1"}),
        (nn.Sequential([ScaledGeneral(5), nn.Dense(4)]), VECTORS, {"layers_1"}),
        (
            nn.Sequential(
                [
                    nn.MultiHeadAttention(
                        2, qkv_dot_general=functools.partial(lax.dot_general)
                    )
                ]
            ),
            LINES,
            {"layers_0/out"},
        ),
    ],
    ids=[
        "tied",
        "subclass",
        "circular",
        "mask",
        "middle axis",
        "general subclass",
        "own product",
    ],
)
def test_layers_that_a_tap_does_not_explain_are_left_out(module, x, known):
    classifier = hf.from_linen(module)
    variables = jax.eval_shape(classifier.init, jax.random.key(0), x)
    tapped = jax.eval_shape(lambda v, x: classifier.tapped(v, x, {})[1], variables, x)
    assert set(tapped) == known


class Wrapped(nn.Module):
    """Two layers behind a transformation, and a head."""

    how: str = "plain"

    @nn.compact
    def __call__(self, x):
        def layers(module, x):
            return nn.relu(nn.Dense(5, name="second")(nn.Dense(6, name="first")(x)))

        if self.how == "class":
            x = nn.remat(nn.Dense)(6, name="first")(x)
            x = nn.relu(nn.remat(nn.Dense)(5, name="second")(x))
        elif self.how == "jit":
            x = nn.jit(nn.Dense)(6, name="first")(x)
            x = nn.relu(nn.jit(nn.Dense)(5, name="second")(x))
        elif self.how == "function":
            x = nn.remat(layers)(self, x)
        else:
            x = layers(self, x)
        return nn.Dense(toys.NUM_CLASSES, name="head")(x)


class WrappedMethod(Wrapped):
    @nn.remat
    @nn.compact
    def __call__(self, x):
        return Wrapped.__call__(self, x)


WRAPPED = {
    "class": Wrapped("class"),
    "function": Wrapped("function"),
    "jit": Wrapped("jit"),
    "method": WrappedMethod(),
    "whole": nn.remat(Wrapped)(),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_transformations_that_change_no_number_change_no_tap(name):
    plain, variables, tapped = shifted(Wrapped())
    classifier = hf.from_linen(WRAPPED[name])
    expected = tapped(variables, VECTORS, {})
    for _ in range(2):  # What is cached has marks in one and none in the other.
        logits = classifier.apply(variables, VECTORS)
        np.testing.assert_allclose(logits, expected[0], **CLOSE)
        got = classifier.tapped(variables, VECTORS, {})
        chex.assert_trees_all_close(got, expected, **CLOSE)
        taps = classifier.taps(variables, VECTORS)
        chex.assert_trees_all_close(taps, got[1], **CLOSE)
    assert hf.models.untapped_layers(classifier, variables, VECTORS) == []


class Looped(nn.Module):
    """What no tap covers, beside an embedding and a normalisation."""

    @nn.compact
    def __call__(self, x):
        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return nn.Dense(6, name="layer")(nn.LayerNorm()(x)), None

        params = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x, _ = nn.scan(Step, length=3, **params)(name="steps")(x, None)
        copies = nn.vmap(nn.Dense, in_axes=None, axis_size=2, **params)
        x = jnp.mean(copies(6, name="copies")(x), axis=0)
        x = nn.WeightNorm(nn.Dense(6, name="normed"))(x)
        x = x @ self.param("own", nn.initializers.ones, (6, 5))
        x = x + nn.Embed(3, 5)(jnp.zeros(x.shape[0], jnp.int32))
        x = x + self.param("places", nn.initializers.ones, (1, 5))
        return nn.Dense(toys.NUM_CLASSES, name="head")(x)


def test_kernels_that_no_tap_covers_are_named():
    classifier = hf.from_linen(Looped())
    variables = jax.eval_shape(classifier.init, jax.random.key(0), VECTORS)
    assert hf.models.untapped_layers(classifier, variables, VECTORS) == [
        "copies/kernel",
        "normed/kernel",
        "own",
        "steps/layer/kernel",
    ]
    bare = classifier._replace(taps=None, tapped=None)
    left = hf.models.untapped_layers(bare, variables, VECTORS)
    assert left[1:3] == ["head/kernel", "normed/kernel"] and len(left) == 5
    with pytest.warns(UserWarning, match="m will not move copies/kernel, normed/kern"):
        hf.models.warn_of_untapped(classifier, variables, VECTORS, "m")


@pytest.mark.filterwarnings("error")
def test_there_is_no_warning_where_every_kernel_is_covered():
    classifier = hf.from_linen(hf.models.ViT(patch=2, width=4, depth=1, heads=2))
    x = jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32)
    variables = jax.eval_shape(classifier.init, jax.random.key(0), x)
    hf.models.warn_of_untapped(classifier, variables, x, "m")


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.mean(nn.Embed(7, 5)(x), axis=1)
        x = nn.relu(nn.Dense(5, name="hidden")(x))
        return nn.Dense(toys.NUM_CLASSES, name="head")(x)


def test_models_of_integers_are_measured_and_unlearned():
    classifier = hf.from_linen(Tokens())
    x = jax.random.randint(jax.random.key(0), (8, 3), 0, 7)
    ones = jnp.ones(8, jnp.int32)
    data = hf.Examples(x, jnp.arange(8) % toys.NUM_CLASSES, ones, jnp.arange(8))
    variables = drawn(jax.eval_shape(classifier.init, jax.random.key(0), x))
    params = variables["params"]
    gram = hf.subspace.measure(classifier, variables, data).values["hidden"]
    rows = np.c_[params["Embed_0"]["embedding"][x].mean(axis=1), np.ones(8)]
    np.testing.assert_allclose(gram[0], rows.T @ rows, rtol=1e-5, atol=1e-6)

    key, request = jax.random.key(1), hf.forget_classes(data, [1])
    for unlearner in (hf.fiun(classifier), hf.pgu(classifier, hf.PGUConfig(rounds=1))):
        state = unlearner.init(key, variables, data)
        state, _ = jax.jit(unlearner.unlearn)(key, state, request)
        changed = state.variables["params"]
        chex.assert_tree_all_finite(changed)
        assert (changed["head"]["kernel"] != params["head"]["kernel"]).any()
