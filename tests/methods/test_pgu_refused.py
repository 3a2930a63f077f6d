"""What projected-gradient unlearning refuses."""

import jax.numpy as jnp
import pytest

import hyperforget_jax as hf
from tests import toys
from tests.methods.pgu_worlds import KEY, answer, begun, world


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rank": "all"}, "rank must be one of .*, got 'all'"),
        ({"objective": "ascent"}, "objective must be one of .*, got 'ascent'"),
        ({"optimizer": "lion"}, "optimizer must be one of .*, got 'lion'"),
        ({"stop": "soon"}, "stop must be one of .*, got 'soon'"),
        ({"rank": "nuclear", "threshold": 1.1}, r"threshold is a share in \[0, 1\]"),
        ({"rank": "energy", "threshold": -0.1}, r"threshold is a share in \[0, 1\]"),
        ({"rank": "drift", "threshold": 0}, "threshold must be positive"),
        ({"rank": "drift", "threshold": -1.0}, "threshold must be positive"),
        ({"rank": "soft", "threshold": 0.0}, "threshold must be positive"),
        ({"rank": "nuclear", "threshold": float("nan")}, "threshold is a share"),
        ({"offset": -0.1}, "offset must be non-negative, got -0.1"),
        *(
            ({name: value}, f"{name} must be positive, got {name}={value}")
            for name in (
                "learning_rate",
                "end_rate",
                "temperature",
                "shrink",
                "rounds",
                "round_steps",
                "batch_size",
            )
            for value in (0, -1)
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        hf.PGUConfig(**changes)


@pytest.mark.parametrize("given", [None, "published", {"threshold": 0.9}])
def test_what_is_no_configuration_is_refused_with_one_that_is(given):
    with pytest.raises(TypeError, match="config must be a hf.PGUConfig, such as hf.P"):
        hf.pgu(toys.perceptron(), given)


def test_a_classifier_without_taps_is_refused():
    data, _, _ = world()
    bare = hf.from_functions(
        lambda key, x: {"w": jnp.ones((x.shape[1], 4))}, lambda p, x: x @ p["w"]
    )
    variables = bare.init(KEY, data.x)
    with pytest.raises(ValueError, match="need taps.*build it with hf.from_linen"):
        hf.pgu(bare).init(KEY, variables, data)
    # Taps of no layer are as good as none.
    none = bare._replace(taps=lambda variables, x: {})
    with pytest.raises(ValueError, match="could not move anything"):
        hf.pgu(none).init(KEY, variables, data)


def test_data_that_name_an_example_twice_are_refused():
    data, classifier, variables = world()
    twice = data._replace(id=data.id.at[3].set(7))
    with pytest.raises(ValueError, match="name every example once, got id 7 in 2"):
        hf.pgu(classifier).init(KEY, variables, twice)


def test_a_request_without_data_is_refused():
    with pytest.raises(ValueError, match="carries no data"):
        answer(world, begun(world), hf.forget_labels([1], num_classes=4))


def test_a_probe_of_training_examples_or_of_numbers_that_are_none_is_named():
    data, classifier, variables = world()
    unlearner = hf.pgu(classifier, probe=data)
    with pytest.raises(
        ValueError, match="probe must be held out.*holds 32 of the training"
    ):
        unlearner.init(KEY, variables, data)
    other = data._replace(x=data.x[..., None], id=data.id + 100)
    with pytest.raises(ValueError, match="probe.x must have as many axes as the"):
        hf.pgu(classifier, probe=other).init(KEY, variables, data)
    # Rows that weigh nothing are no training examples.
    out = jnp.arange(20)
    hf.pgu(classifier, probe=data.take(out)).init(KEY, variables, data.without(out))
    nothing = data._replace(x=jnp.full_like(data.x, jnp.nan))
    with pytest.raises(ValueError, match=r"probe\.x"):
        hf.pgu(classifier, probe=nothing)


def test_a_probe_for_init_alone_is_refused_since_access_does_not_name_it():
    data, classifier, variables = world()
    probe = toys.points(num_rows=32, seed=8, first_id=100)
    with pytest.raises(ValueError, match="given a probe and hf.pgu none"):
        hf.pgu(classifier).init(KEY, variables, data, probe)
