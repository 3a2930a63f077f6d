"""The mask: what it hides, and what it leaves as it was."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from tests import toys


@functools.cache
def world():
    data, classifier = toys.points(), toys.perceptron()
    classifier = classifier._replace(apply=jax.jit(classifier.apply))
    variables = jax.jit(classifier.init)(jax.random.key(0), data.x)
    unlearner = hf.logit_mask(classifier)
    state = unlearner.init(jax.random.key(1), variables, data)
    return data, classifier, variables, unlearner, state


def test_the_class_is_never_predicted_and_the_others_keep_their_logits():
    data, classifier, variables, unlearner, state = world()
    before = classifier.apply(variables, data.x)
    common = int(np.argmax(np.bincount(np.argmax(before, axis=1))))
    request = hf.forget_classes(data, [common])
    after, _ = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
    logits = classifier.apply(after.variables, data.x)
    assert (np.argmax(before, axis=1) == common).any()
    assert not (np.argmax(logits, axis=1) == common).any()
    others = np.arange(4) != common
    np.testing.assert_array_equal(logits[:, others], before[:, others])


def test_no_parameter_is_touched():
    data, classifier, variables, unlearner, state = world()
    request = hf.forget_classes(data, [0, 3])
    after, _ = unlearner.unlearn(jax.random.key(2), state, request)
    chex.assert_trees_all_equal(after.variables["params"], variables["params"])
    # Whoever drops the mask has the original.
    del after.variables["output_mask"]
    np.testing.assert_array_equal(
        classifier.apply(after.variables, data.x), classifier.apply(variables, data.x)
    )


def test_masks_of_sequential_requests_accumulate():
    data, _, _, unlearner, state = world()
    first, second = (hf.forget_classes(data, [label]) for label in (2, 0))
    state, _ = unlearner.unlearn(jax.random.key(2), state, first)
    state, _ = unlearner.unlearn(jax.random.key(3), state, second)
    assert state.variables["output_mask"].tolist() == [True, False, True, False]
    # A mask that was there already stays when a new life begins.
    again = unlearner.init(jax.random.key(4), state.variables, data)
    chex.assert_trees_all_equal(again.variables, state.variables)
    assert state.forgotten.classes.tolist() == [True, False, True, False]


def test_requests_for_rows_change_nothing():
    data, classifier, variables, unlearner, state = world()
    after, _ = unlearner.unlearn(
        jax.random.key(2), state, hf.forget_rows(data, [0, 1, 2])
    )
    chex.assert_trees_all_equal(after, state)
    np.testing.assert_array_equal(
        classifier.apply(after.variables, data.x), classifier.apply(variables, data.x)
    )


def test_all_classes_at_once_are_a_vmap():
    data, classifier, _, unlearner, state = world()
    keys = jax.random.split(jax.random.key(2), 4)
    states, _ = hf.unlearn_each(unlearner, keys, state, hf.forget_each_class(data))
    masks = states.variables["output_mask"]
    np.testing.assert_array_equal(masks, np.eye(4, dtype=bool))
    answers = jax.vmap(
        lambda mask: classifier.apply({**state.variables, "output_mask": mask}, data.x)
    )(masks)
    assert not (jnp.argmax(answers, axis=-1) == jnp.arange(4)[:, None]).any()


def test_labels_without_data_are_enough():
    _, _, _, unlearner, state = world()
    request = hf.forget_labels([1], num_classes=4)
    after, _ = jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)
    assert after.variables["output_mask"].tolist() == [False, True, False, False]
