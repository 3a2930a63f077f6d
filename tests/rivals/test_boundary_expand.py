"""Boundary expand: one step by hand, and which classifiers it is for."""

import chex
import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.boundary_expand import new_output
from tests import toys
from tests.rivals import numpy_net


def answer(classifier, data, request, **options):
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    unlearner = hf.rivals.boundary_expand(classifier, **options)
    state = unlearner.init(jax.random.key(1), variables, data)
    return variables, jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)


def test_one_step_is_the_gradient_by_hand():
    data, classifier = toys.points(), toys.perceptron()
    request = hf.forget_rows(data, np.arange(8), num_classes=4)
    variables, (after, _) = answer(
        classifier, data, request, optimizer=optax.sgd(0.1), steps=1, batch_size=64
    )
    key_output, _ = jax.random.split(jax.random.key(2))
    added = new_output(key_output, variables["params"]["Dense_1"]["kernel"])
    *first, kernel, bias = numpy_net.weights_of(variables)
    # The network with a fifth output, of which every row is said to be.
    wide = [
        *first,
        np.column_stack([kernel, np.asarray(added, float)]),
        np.append(bias, 0),
    ]
    x = np.asarray(data.x, float)[:8]
    out = numpy_net.residuals(wide, x, np.full(8, 4))
    gradient, _ = numpy_net.gradients(wide, x, out)
    *first, kernel, bias = (
        w - 0.1 * g.mean(0) for w, g in zip(wide, gradient, strict=True)
    )
    # Float32 against float64: sums of 64 terms of about one.
    numpy_net.assert_params(
        after.variables["params"], [*first, kernel[:, :4], bias[:4]], atol=2e-6
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(after.variables, variables)


def test_new_outputs_are_drawn_for_their_inputs():
    kernel = np.zeros((50, 20, 3), np.float16)
    drawn = new_output(jax.random.key(3), kernel)
    assert drawn.shape == (1000,) and drawn.dtype == np.float16
    # A thousand draws of variance 1 / 1000: the deviation is known to 2 %.
    np.testing.assert_allclose(np.std(np.asarray(drawn, float)), 1000**-0.5, rtol=0.1)


def test_classifiers_without_a_known_last_layer_are_refused():
    data, known = toys.points(), toys.perceptron()
    bare = hf.from_functions(known.init, known.apply)
    request = hf.forget_classes(data, [1])
    with pytest.raises(ValueError, match="dense layer that gives the logits"):
        answer(bare, data, request)


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_sizes_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        hf.rivals.boundary_expand(toys.perceptron(), **{name: 0})
