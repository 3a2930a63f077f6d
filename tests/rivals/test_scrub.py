"""SCRUB: epochs of both kinds by hand, and the student that rewinding gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.distillation import divergence
from hyperforget_jax.rivals.rewinding import nearest_epoch, rewind
from tests import toys
from tests.rivals import by_hand

KEY = jax.random.key(2)


def _distance(params, x, teacher, temperature):
    """Gradients of the mean of ``T^2 * KL`` at temperature T."""
    ours, theirs = (
        by_hand.softmax(by_hand.logits(each, x) / temperature)
        for each in (params, teacher)
    )
    return by_hand.backward(params, x, temperature * (ours - theirs) / len(x))


@pytest.mark.slow
def test_epochs_are_those_by_hand():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.scrub(
        classifier,
        alpha=0.7,
        gamma=0.9,
        temperature=2.0,
        epochs=3,
        max_epochs=2,
        optimizer=optax.sgd(0.1, momentum=0.5),
        # One minibatch an epoch, which holds each row as often as another.
        batch_size=60,
        forget_batch_size=10,
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    params = teacher = by_hand.double(variables)
    momentum = by_hand.combine(np.zeros_like, params)
    for epoch in range(3):
        if epoch < 2:
            up = _distance(params, x[gone], teacher, 2.0)
            momentum = by_hand.combine(lambda m, g: 0.5 * m - g, momentum, up)
            params = by_hand.step(params, momentum, 0.1)
        true = by_hand.cross_entropy(params, x[~gone], y[~gone])
        near = _distance(params, x[~gone], teacher, 2.0)
        momentum = by_hand.combine(
            lambda m, a, b: 0.5 * m + 0.9 * a + 0.7 * b, momentum, true, near
        )
        params = by_hand.step(params, momentum, 0.1)
    by_hand.assert_close(found, params)


def test_the_gradient_of_the_distance_from_the_teacher_by_hand():
    """Of another student than the teacher, where it is not zero."""
    data, classifier, variables, request, x, y, gone = by_hand.world()
    other = classifier.init(jax.random.key(5), data.x)
    students, teacher = by_hand.double(other), by_hand.double(variables)
    by_student = jax.jit(
        jax.grad(
            lambda params: jnp.mean(
                divergence(
                    classifier.apply(variables, request.forget.x),
                    classifier.apply({"params": params}, request.forget.x),
                    2.0,
                )
            )
        )
    )(other["params"])
    by_hand.assert_close(
        {"params": by_student}, _distance(students, x[gone], teacher, 2.0)
    )


def test_the_last_of_the_nearest_epochs_is_found():
    errors = jnp.array([0.1, 0.5, 0.3, 0.5, 0.9])
    for reference, epoch in ((0.0, 0), (0.45, 3), (0.3, 2), (2.0, 4)):
        assert nearest_epoch(errors, jnp.asarray(reference)) == epoch


@pytest.mark.slow
def test_rewinding_gives_the_student_that_errs_as_the_last_on_unseen_rows():
    """Students that differ in the bias of one class, in softmax regression."""
    data, classifier = toys.points(), toys.softmax_regression()
    probe = toys.points(80, seed=8, first_id=100)
    variables = hf.fit(
        jax.random.key(0), classifier, data, optax.adam(3e-2), 60, batch_size=16
    )
    head = variables["params"]["Dense_0"]
    shifts = np.array([0.0, -3.0, -6.0, -40.0, -2.0])
    biases = head["bias"][None] + jnp.asarray(shifts)[:, None] * jnp.eye(4)[1:2]
    layer = {"kernel": jnp.stack([head["kernel"]] * 5), "bias": biases}
    students = {"params": {"Dense_0": layer}}
    # Another number of rows of each class is forgotten.
    forget = hf.forget_rows(data, np.arange(12), num_classes=4).forget
    chosen = rewind(classifier, students, forget, probe)
    kernel = np.asarray(head["kernel"], np.float64)

    def errors(epoch, examples):
        bias = np.asarray(biases[epoch], np.float64)
        found = (np.asarray(examples.x) @ kernel + bias).argmax(axis=1)
        return found != np.asarray(examples.y)

    rows = np.asarray(forget.weight) > 0
    counts = np.bincount(np.asarray(forget.y)[rows], minlength=4)
    by_class = [errors(4, probe)[np.asarray(probe.y) == c].mean() for c in range(4)]
    reference = counts @ by_class / counts.sum()
    own = [errors(epoch, forget)[rows].mean() for epoch in range(5)]
    gaps = np.abs(np.array(own) - reference)
    expected = 4 - int(np.argmin(gaps[::-1]))
    np.testing.assert_array_equal(chosen["params"]["Dense_0"]["bias"], biases[expected])
    assert 0 < expected < 4  # Neither the first nor the last.
    # None of their classes is held out: the last student.
    absent = probe._replace(weight=jnp.zeros_like(probe.weight))
    last = rewind(classifier, students, forget, absent)
    np.testing.assert_array_equal(last["params"]["Dense_0"]["bias"], biases[4])


@pytest.mark.slow
def test_with_a_probe_it_gives_one_of_the_students_that_it_passes():
    world = by_hand.world()
    probe = toys.points(seed=8, first_id=100)
    options = dict(optimizer=optax.sgd(0.2), max_epochs=1, batch_size=16)
    found = world.unlearn(
        hf.rivals.scrub(world.classifier, epochs=4, probe=probe, **options), KEY
    )
    passed = [
        world.unlearn(hf.rivals.scrub(world.classifier, epochs=epochs, **options), KEY)
        for epochs in (1, 2, 3, 4)
    ]
    gaps = [
        max(
            float(jnp.abs(a - b).max())
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(each), strict=True)
        )
        for each in passed
    ]
    # Rounding of two programs; a step moves far more.
    assert sorted(gaps)[0] < 1e-5 < sorted(gaps)[1]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"alpha": -1.0}, "alpha must be finite and not negative"),
        ({"gamma": float("nan")}, "gamma must be finite and not negative"),
        ({"epochs": 2, "max_epochs": 3}, "max_epochs must be at most epochs"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        hf.rivals.scrub(by_hand.world().classifier, **wrong)


def test_a_probe_that_was_trained_on_is_refused():
    world = by_hand.world()
    unlearner = hf.rivals.scrub(world.classifier, probe=world.data)
    with pytest.raises(ValueError, match="probe must be held out"):
        unlearner.init(KEY, world.variables, world.data)
