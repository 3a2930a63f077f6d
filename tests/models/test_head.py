"""Last layers: found, widened, and their columns moved by class."""

import chex
import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.models import head
from hyperforget_jax.models.head import Head, find_head, widen
from tests import toys

DATA = toys.points()
COLUMNS = (3, 1, 0)
NARROW = hf.from_linen(hf.models.MLP((5,), 3))
WIDE = widen(NARROW, COLUMNS, 4)
VARIABLES = jax.jit(NARROW.init)(jax.random.key(0), DATA.x)
ABSENT = -1e4


class WidenTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_logits_stand_in_their_classes_columns(self):
        logits = self.variant(WIDE.apply)(VARIABLES, DATA.x)
        own = NARROW.apply(VARIABLES, DATA.x)
        # The same products from another compilation.
        np.testing.assert_allclose(logits[:, COLUMNS], own, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(logits[:, 2], ABSENT)

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_mask_of_classes_masks_their_columns(self):
        mask = jnp.array([False, True, True, False])
        masked = {**VARIABLES, "output_mask": mask}
        logits = self.variant(WIDE.apply)(masked, DATA.x)
        np.testing.assert_array_equal(logits[:, 1:3], ABSENT)
        expected = NARROW.apply(VARIABLES, DATA.x)[:, jnp.array([2, 0])]
        np.testing.assert_allclose(
            logits[:, jnp.array([0, 3])], expected, rtol=1e-5, atol=1e-6
        )


def test_training_mode_keeps_the_mask_of_all_classes():
    narrow = hf.from_linen(
        toys._Normalised(), train={"train": True}, eval={"train": False}
    )
    wide = widen(narrow, (4, 0, 2, 1), 6)
    mask = jnp.arange(6) == 2
    variables = {**narrow.init(jax.random.key(0), DATA.x), "output_mask": mask}
    logits, after = wide.apply_train(jax.random.key(1), variables, DATA.x)
    np.testing.assert_array_equal(after["output_mask"], mask)
    assert jax.tree.structure(after) == jax.tree.structure(variables)
    moved = after["batch_stats"]["BatchNorm_0"]["mean"]
    assert (moved != variables["batch_stats"]["BatchNorm_0"]["mean"]).any()
    np.testing.assert_array_equal(logits[:, jnp.array([2, 3, 5])], ABSENT)
    assert (logits[:, jnp.array([0, 1, 4])] > ABSENT).all()


def test_the_fisher_of_a_widened_classifier_is_the_narrow_ones():
    y = jnp.asarray([2, 1, 3, 0])[DATA.y]
    chosen = np.asarray(y) != 2
    data = DATA._replace(y=y, weight=jnp.asarray(chosen, jnp.int32))
    # Columns of the classes: 3 is the first.
    own = data._replace(y=jnp.array([2, 1, 0, 0])[y])
    wide, narrow = (
        jax.jit(lambda d, model=model: hf.fisher.diagonal(model, VARIABLES, d))(each)
        for model, each in ((WIDE, data), (NARROW, own))
    )
    # One way forms gradients, the other their squares.
    chex.assert_trees_all_close(wide, narrow, rtol=1e-4, atol=1e-9)


def test_heads_are_found():
    assert find_head(NARROW, VARIABLES, DATA.x) == Head("Dense_1", (0, 1, 2))
    assert find_head(WIDE, VARIABLES, DATA.x, COLUMNS) == Head("Dense_1", COLUMNS)
    masked = {**VARIABLES, "output_mask": jnp.zeros(4, bool)}
    assert find_head(WIDE, masked, DATA.x, COLUMNS).path == "Dense_1"


def test_the_head_by_class_is_centred_and_has_every_class():
    kernel, bias = head.head_by_class(VARIABLES, Head("Dense_1", COLUMNS), 4)
    own = jax.device_get(VARIABLES["params"]["Dense_1"])
    assert kernel.shape == (5, 4) and bias.shape == (4,)
    for place, label in enumerate(COLUMNS):
        # Means of three float32 numbers.
        np.testing.assert_allclose(
            kernel[:, label],
            own["kernel"][:, place] - own["kernel"].mean(axis=1),
            atol=1e-6,
        )
    assert not kernel[:, 2].any() and bias[2] == 0


@hypothesis.given(
    source=st.permutations(range(5)).map(lambda order: order[:3]),
    target=st.permutations(range(5)).map(lambda order: order[:4]),
)
def test_columns_move_by_class(source, target):
    part = {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.arange(3.0)}
    fill = {"kernel": -1 - np.arange(8.0).reshape(2, 4), "bias": -1 - np.arange(4.0)}
    for given in (0.0, fill):
        moved = head.move_columns(part, source, target, given)
        for name, leaf in moved.items():
            for place, label in enumerate(target):
                if label in source:
                    expected = part[name][..., source.index(label)]
                else:
                    expected = 0 if given == 0.0 else fill[name][..., place]
                np.testing.assert_array_equal(leaf[..., place], expected)


def test_malformed_heads_are_refused():
    for columns in ((0, 0, 1), (0, 1, 4), (-1, 0, 1)):
        with pytest.raises(ValueError, match=r"different classes in \[0, 4\), got \["):
            widen(NARROW, columns, 4)
    with pytest.raises(ValueError, match="each of the 3 outputs of Dense_1, got 2"):
        find_head(NARROW, VARIABLES, DATA.x, (0, 1))
    bare = hf.from_functions(
        lambda key, x: {"w": jnp.ones((x.shape[1], 4))}, lambda p, x: x @ p["w"]
    )
    with pytest.raises(ValueError, match="no taps.*make it with hf.from_linen"):
        find_head(bare, bare.init(jax.random.key(0), DATA.x), DATA.x)
    with pytest.raises(ValueError, match="no taps.*make it with hf.from_linen"):
        find_head(widen(bare, range(4), 6), {"params": {"w": jnp.ones((6, 4))}}, DATA.x)
    single = hf.from_linen(nn.Dense(4))
    with pytest.raises(ValueError, match="is a single layer, which has no name"):
        find_head(single, single.init(jax.random.key(0), DATA.x), DATA.x)


def test_the_head_is_the_layer_that_gives_the_logits_whatever_its_name():
    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="head")(nn.relu(nn.Dense(5, name="trunk")(x)))

    for module, path in (
        (Named(), "head"),
        (hf.models.MLP((3,) * 10, 4), "Dense_10"),
    ):
        classifier = hf.from_linen(module)
        x = jnp.zeros((2, 6))
        variables = jax.eval_shape(classifier.init, jax.random.key(0), x)
        for model in (classifier, classifier._replace(tapped=None)):
            assert find_head(model, variables, x).path == path


def test_a_head_of_more_than_two_axes_is_refused():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.DenseGeneral(4, axis=(-2, -1))(x.reshape(x.shape[0], 2, 3))

    classifier = hf.from_linen(Wide())
    variables = classifier.init(jax.random.key(0), DATA.x)
    with pytest.raises(ValueError, match="kernel of shape"):
        find_head(classifier, variables, DATA.x)
