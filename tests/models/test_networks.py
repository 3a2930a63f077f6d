"""The shipped networks of images: sizes, shapes, modes, taps, and their pooling."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.models.networks import max_pool

MODES = {"train": {"train": True}, "eval": {"train": False}}
# name: the network as published, a tiny one, whether it has modes
NETWORKS = {
    "SmallVGG": (
        hf.models.SmallVGG(),
        hf.models.SmallVGG(features=(2, 3, 4), hidden=5, num_classes=4),
        True,
    ),
    "AllCNN": (hf.models.AllCNN(), hf.models.AllCNN(width=2, num_classes=4), True),
    "ResNet18": (
        hf.models.ResNet18(),
        hf.models.ResNet18(widths=(2, 3), num_classes=4),
        True,
    ),
    "ResNet8": (
        hf.models.ResNet8(),
        hf.models.ResNet8(widths=(2, 3), num_classes=4),
        True,
    ),
    "ViT": (
        hf.models.ViT(),
        hf.models.ViT(width=4, depth=1, heads=2, mlp_width=3, num_classes=4),
        False,
    ),
}
with_modes = pytest.mark.parametrize("name", [n for n in NETWORKS if NETWORKS[n][2]])
IMAGES = jax.random.normal(jax.random.key(0), (3, 8, 8, 2))


def published(name):
    module, _, modes = NETWORKS[name]
    return hf.from_linen(module, **MODES if modes else {})


@functools.cache
def tiny(name):
    """A tiny classifier with jitted functions, and variables drawn for ``IMAGES``."""
    _, module, modes = NETWORKS[name]
    classifier = hf.from_linen(module, **MODES if modes else {})
    classifier = classifier._replace(
        apply=jax.jit(classifier.apply), apply_train=jax.jit(classifier.apply_train)
    )
    return classifier, jax.jit(classifier.init)(jax.random.key(1), IMAGES)


def kernels(tree, path=()):
    """Paths of everything that has a kernel."""
    found = {"/".join(path)} if "kernel" in tree else set()
    nested = {name: part for name, part in tree.items() if isinstance(part, dict)}
    return found.union(*(kernels(part, (*path, n)) for n, part in nested.items()))


def convolutions(window, *channels):
    """Parameters of convolutions in a row, without biases."""
    return window**2 * sum(map(int.__mul__, channels[:-1], channels[1:]))


def vgg(channels, flat):
    features = (128, 256, 512)
    count = convolutions(3, channels, *features) + sum(features)
    count += flat * 512 + 512 + 512 * 10 + 10
    return count + 2 * (sum(features) + 512)  # Scales and shifts.


def allcnn(channels):
    count = convolutions(3, channels, 96, 96, 192, 192, 192, 192, 192)
    count += convolutions(1, 192, 192) + 192 * 10 + 10
    return count + 2 * (2 * 96 + 6 * 192)


def resnet8(channels):
    count = convolutions(3, channels, 16, 16, 16)
    count += convolutions(3, 16, 32, 32) + convolutions(1, 16, 32)
    count += convolutions(3, 32, 64, 64) + convolutions(1, 32, 64)
    # Every convolution has its scales and shifts; a linear head.
    return count + 2 * (3 * 16 + 3 * 32 + 3 * 64) + 64 * 10 + 10


def vit(channels, patches):
    block = 4 * (64 * 64 + 64) + 2 * 64 * 128 + 128 + 64 + 2 * 2 * 64
    embedding = 16 * channels * 64 + 64 + patches * 64
    return embedding + 4 * block + 2 * 64 + 64 * 10 + 10


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("SmallVGG", (32, 32, 3), vgg(3, 4 * 4 * 512)),
        # 28, 14, 7, and of seven pixels six.
        ("SmallVGG", (28, 28, 1), vgg(1, 3 * 3 * 512)),
        ("AllCNN", (32, 32, 3), allcnn(3)),
        ("AllCNN", (28, 28, 1), allcnn(1)),
        ("ResNet18", (32, 32, 3), 11_173_962),
        ("ResNet18", (28, 28, 1), 11_173_962 - 9 * 2 * 64),
        ("ResNet8", (32, 32, 3), resnet8(3)),
        ("ResNet8", (28, 28, 1), resnet8(1)),
        ("ViT", (32, 32, 3), vit(3, 64)),
        ("ViT", (28, 28, 1), vit(1, 49)),
    ],
)
def test_sizes_and_shapes(name, shape, count):
    classifier = published(name)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(classifier.init, jax.random.key(0), x)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    assert jax.eval_shape(classifier.apply, variables, x).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("SmallVGG", 5_681_674),
        ("AllCNN", 1_620_010),
        ("ResNet8", 78_042),
        ("ViT", 141_898),
    ],
)
def test_docstrings_say_the_size(name, count):
    """What the formulas give for images of 32 x 32 x 3."""
    formulas = {"SmallVGG": vgg(3, 8192), "AllCNN": allcnn(3), "ViT": vit(3, 64)}
    formulas["ResNet8"] = resnet8(3)
    assert formulas[name] == count
    assert f"{count:,}" in " ".join(type(NETWORKS[name][0]).__doc__.split())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kernel_is_tapped_and_the_head_gives_the_logits(name):
    classifier, variables = tiny(name)
    tapped = jax.eval_shape(
        lambda v, x: classifier.tapped(v, x, {})[1], variables, IMAGES
    )
    assert set(tapped) == kernels(variables["params"])
    giving = [path for path, (tap,) in tapped.items() if tap.gives_logits]
    assert len(giving) == 1 and giving[0].startswith("Dense_")


@pytest.mark.parametrize("name", NETWORKS)
def test_examples_do_not_see_one_another_in_evaluation(name):
    classifier, variables = tiny(name)
    logits = classifier.apply(variables, IMAGES)
    assert logits.shape == (3, 4) and np.ptp(logits, axis=0).min() > 0
    other = IMAGES.at[0].set(0.0)
    np.testing.assert_allclose(
        classifier.apply(variables, other)[1:], logits[1:], rtol=1e-5, atol=1e-6
    )


@with_modes
def test_statistics_follow_the_batch_in_training_alone(name):
    classifier, variables = tiny(name)
    _, after = classifier.apply_train(jax.random.key(2), variables, IMAGES)
    before = variables["batch_stats"]
    assert len(jax.tree.leaves(before)) >= 8
    changed = jax.tree.map(
        lambda old, new: bool((old != new).any()), before, after["batch_stats"]
    )
    assert all(jax.tree.leaves(changed))
    # What evaluation answers depends on them.
    logits = classifier.apply(variables, IMAGES)
    assert not np.allclose(logits, classifier.apply(after, IMAGES))


def test_dropout_is_the_vggs_alone():
    keys = jax.random.key(2), jax.random.key(3)
    for name in NETWORKS:
        classifier, variables = tiny(name)
        one, other = (classifier.apply_train(k, variables, IMAGES)[0] for k in keys)
        assert bool((one != other).any()) == (name == "SmallVGG")


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (2, 3)])
def test_pooling_is_that_of_flax(size):
    random = np.random.default_rng(0)
    x = np.float32(random.normal(size=(2, *size, 3)))
    expected = nn.max_pool(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(max_pool(x), expected)

    def gradient(pool):
        return jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))(x)

    flax = gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    np.testing.assert_allclose(gradient(max_pool), flax, rtol=1e-6)


def test_the_pooled_perceptron_is_one_of_means():
    x = np.float32(np.random.default_rng(0).normal(size=(3, 5, 6, 2)))
    pooled = hf.models.PooledMLP((4,))
    variables = pooled.init(jax.random.key(0), x)
    means = x[:, :4].reshape(3, 2, 2, 3, 2, 2).mean((2, 4))
    np.testing.assert_allclose(
        pooled.apply(variables, x),
        hf.models.MLP((4,)).apply(variables, means),
        rtol=1e-5,
        atol=1e-6,
    )


def test_images_that_are_too_small_are_refused():
    x = jnp.zeros((1, 6, 8, 3))
    classifier = published("SmallVGG")
    with pytest.raises(ValueError, match="Images of 1 x 2 are smaller than a window"):
        jax.eval_shape(classifier.init, jax.random.key(0), x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (hf.models.ViT(patch=3), "Images of 8 x 8 do not divide into patches of 3 x 3"),
        (hf.models.ViT(width=6), "width must be a multiple of heads=4, got 6"),
    ],
)
def test_transformers_that_do_not_divide_are_refused(module, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(hf.from_linen(module).init, jax.random.key(0), IMAGES)


def test_patches_are_dense_over_squares_of_the_image():
    classifier, variables = tiny("ViT")
    (tap,) = jax.jit(classifier.taps)(variables, IMAGES)["Dense_0"]
    assert tap.input.shape == (3, 4, 4 * 4 * 2)
    # The second patch in reading order is the upper right one.
    corner = IMAGES[:, :4, 4:].reshape(3, -1)
    np.testing.assert_array_equal(tap.input[:, 1], corner)
