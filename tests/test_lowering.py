"""Every program lowers for TPUs and for CUDA, though the tests run on CPUs.

Exporting traces and lowers, and compiles nothing: what only the CPU has, a primitive or
a callback into Python, is refused for the other platforms. Shapes are enough for it.
"""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import export
from jax.sharding import NamedSharding, PartitionSpec

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from hyperforget_jax.hypernet import train
from hyperforget_jax.hypernet.dataset import pair_dataset
from hyperforget_jax.training import members
from tests import toys
from tests.hypernet import worlds
from tests.methods.table import GRAPHS, METHODS

PLATFORMS = ("tpu", "cuda")
KEY = jax.random.key(0)


def lower(function, *given):
    """Lower a function of arrays like these for both platforms; return its shapes."""
    shapes = jax.eval_shape(lambda *arrays: arrays, *given)
    made = export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    assert made.platforms == PLATFORMS
    found = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in made.out_avals]
    return jax.tree.unflatten(made.out_tree, found)


def image_data():
    data = toys.points(features=64)
    return data._replace(x=data.x.reshape(-1, 8, 8, 1))


# They trace for long: for CI, like the rows that others show.
LONG = ("dihyfo", "graph_fiun")


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in (*METHODS, *GRAPHS)
    ],
)
def test_a_method(method):
    data, classifier = toys.points(), toys.perceptron()
    unlearner = {**METHODS, **GRAPHS}[method](classifier)
    variables = jax.eval_shape(classifier.init, KEY, data.x)
    state = lower(unlearner.init, KEY, variables, data)
    request = hf.forget_classes(data, [1])
    after, _ = lower(unlearner.unlearn, KEY, state, request)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.slow
def test_fit():
    modes = {"train": {"train": True}, "eval": {"train": False}}
    classifier = hf.from_linen(toys.ConvNet(), **modes)
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-2, 4))

    def fit(key, data):
        augment = hf.data.crop_and_flip(0)
        return hf.fit(
            key, classifier, data, optimizer, 4, batch_size=8, augment=augment
        )

    assert set(lower(fit, KEY, image_data())) == {"params", "batch_stats"}


@pytest.mark.slow
def test_a_population_on_a_mesh():
    data, classifier = toys.points(), toys.perceptron()
    objective = members.CrossEntropy(classifier, None)
    program = members.Program(classifier, optax.adam(1e-2), objective, 8)
    start, advance = (
        functools.partial(each, program)
        for each in (members.start_all, members.advance_all)
    )
    keys, state = lower(start, data.x, jax.random.split(KEY, 16), None)
    split = NamedSharding(hf.sharding.make_mesh(), PartitionSpec("population"))
    own = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split),
        (keys, state),
    )
    common = ((), None, data, (), jnp.int32(0), jnp.int32(4))
    made = export.export(jax.jit(advance), platforms=PLATFORMS)(*own, *common)
    assert (made.platforms, made.nr_devices) == (PLATFORMS, jax.device_count())


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["attention", "mean"])
def test_training_a_hypernetwork(mixer):
    # As "auto" has it on accelerators.
    config = hypernet.HypernetConfig(
        width=8, heads=2, depth=1, mixer=mixer, dtype="bfloat16"
    )
    data, classifier = worlds.train(), worlds.CLASSIFIER
    network = hypernet.build(classifier, data.x, config)
    dataset = pair_dataset(worlds.drawn_zoo(classifier))
    params = jax.eval_shape(network.init, KEY)
    training = hypernet.TrainConfig(steps=4, batch_size=4, functional_rows=8)
    state = lower(functools.partial(train._init, network, training), KEY)
    step = functools.partial(train._advance, (network, classifier, training), 2, None)
    after = lower(step, KEY, state, (params, dataset, data), jnp.int32(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)


REFUSED = {
    "a primitive": (jax.lax.linalg.schur, "not found for platform"),
    "a callback": (lambda x: jax.pure_callback(lambda x: x, x, x), "python_callback"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_only_the_cpu_has_is_refused(what):
    function, said = REFUSED[what]
    with pytest.raises(NotImplementedError, match=said):
        lower(function, jnp.eye(2))
