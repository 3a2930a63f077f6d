"""What is easily mistaken is named: the argument, what was given, what is allowed."""

import types

import jax
import optax
import pytest
from flax import nnx

import hyperforget_jax as hf
from hyperforget_jax import hypernet, subspace
from tests import toys

KEY, DATA, CLASSIFIER = jax.random.key(0), toys.points(), toys.perceptron()
VARIABLES = CLASSIFIER.init(KEY, DATA.x)
OTHERS = hf.from_linen(hf.models.MLP((3,), 4)).init(KEY, DATA.x)
DIVERGED = jax.tree.map(lambda leaf: leaf * float("nan"), VARIABLES)
SPLITS = hf.data.Splits(DATA, DATA, DATA)
REQUEST = hf.forget_classes(DATA, [1])
OPTIMIZER = optax.adam(1e-3)
PREPARED = {
    "ssd": hf.ssd(CLASSIFIER),
    "fiun": hf.fiun(CLASSIFIER),
    "pgu": hf.pgu(CLASSIFIER),
    "finetune": hf.finetune(CLASSIFIER),
}


@pytest.mark.parametrize("method", PREPARED)
@pytest.mark.parametrize(
    "variables, data, error, message",
    [
        (VARIABLES, SPLITS, TypeError, "data must be hf.Examples.*got Splits"),
        (OTHERS, DATA, ValueError, "variables do not fit the classifier"),
        (
            DIVERGED,
            DATA,
            ValueError,
            r"variables\['params'\]\['Dense_0.* is not finite",
        ),
    ],
)
def test_what_methods_are_prepared_with(method, variables, data, error, message):
    with pytest.raises(error, match=message):
        PREPARED[method].init(KEY, variables, data)


def test_parameters_that_a_jitted_init_closes_over():
    init = PREPARED["finetune"].init
    jax.jit(lambda key: init(key, VARIABLES, DATA))(KEY)
    with pytest.raises(ValueError, match="is not finite: the model has diverged"):
        jax.jit(lambda key: init(key, DIVERGED, DATA))(KEY)


@pytest.mark.parametrize("method", PREPARED)
def test_states_of_other_methods(method):
    other = "ssd" if method == "finetune" else "finetune"
    state = PREPARED[other].init(KEY, VARIABLES, DATA)
    message = f"state must be what init gave; got {type(state).__name__}"
    with pytest.raises(TypeError, match=message):
        PREPARED[method].unlearn(KEY, state, REQUEST)


def zoo(**changes):
    training = hypernet.FitConfig(OPTIMIZER, 2, 8)
    held_out = toys.points(seed=8, first_id=100)
    options = dict(masks=[[0], [1]], starts=2, start=training, forget=training)
    options |= dict(checkpoint_steps=(), **changes)
    return hypernet.edit_zoo(KEY, CLASSIFIER, DATA, held_out, **options)


def built():
    return hypernet.build(CLASSIFIER, DATA.x, hypernet.HypernetConfig(width=8, heads=2))


TRAIN = hypernet.TrainConfig(steps=2)


def learn(zoo=None, config=TRAIN):
    return hypernet.fit_hypernetwork(KEY, built(), CLASSIFIER, zoo, DATA, config)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(6, 4, rngs=rngs)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: hf.pgu(CLASSIFIER, probe=SPLITS), "probe must be hf.Examples"),
        (
            lambda: hf.fit(KEY, CLASSIFIER, DATA, "adam", 5),
            "optimizer must be an optax",
        ),
        (
            lambda: hf.forget_random(KEY, DATA, "two"),
            "count must be a number of examples, or a fraction",
        ),
        (
            lambda: hf.from_nnx(Model(nnx.Rngs(0))),
            "create must be a function of nnx.Rngs",
        ),
        (
            lambda: hf.evaluate(CLASSIFIER, VARIABLES, DATA, DATA),
            "request must be a hf.ForgetRequest.*; got Examples",
        ),
        (lambda: zoo(masks=range(4)), r"masks must be sets of classes.*got 0 among"),
        (lambda: zoo(start=OPTIMIZER), "start must be hypernet.FitConfig; got"),
        (lambda: learn(config=5), "config must be hypernet.TrainConfig; got int"),
        (
            lambda: hypernet.build(CLASSIFIER, DATA, hypernet.HypernetConfig()),
            "x must be an array .* got Examples",
        ),
        (
            lambda: hypernet.save_hypernetwork("never", types.SimpleNamespace(), None),
            "hypernetwork must be what hypernet.build gives; got SimpleNamespace",
        ),
        (
            lambda: subspace.save_store(
                "never", (), CLASSIFIER, VARIABLES, preprocessing={}
            ),
            "store must be the Gram store, such as state.store; got tuple",
        ),
    ],
)
def test_things_of_the_wrong_kind(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("nothing", [None, []])
def test_no_zoo_at_all(nothing):
    with pytest.raises(ValueError, match="zoo must be a zoo, or at least one"):
        learn(nothing)


def test_preprocessing_that_names_nothing():
    state = PREPARED["pgu"].init(KEY, VARIABLES, DATA)
    with pytest.raises(TypeError, match="preprocessing must be a mapping.*got str"):
        subspace.save_store(
            "never", state.store, CLASSIFIER, VARIABLES, preprocessing="digits"
        )
