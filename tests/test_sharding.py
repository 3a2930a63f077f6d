"""Arrays land on the devices they were meant for, with the values they had."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import hyperforget_jax as hf
from hyperforget_jax.base import Examples
from hyperforget_jax.sharding import make_mesh, replicate, shard, shard_examples
from tests import toys


def _examples(num_rows):
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    return Examples(
        x=jnp.linspace(0, 1, num_rows * 3).reshape(num_rows, 3),
        y=rows % 2,
        weight=jnp.ones(num_rows, jnp.int32),
        id=rows + 100,
    )


def _shard_shapes(leaf):
    return {shard.data.shape for shard in leaf.addressable_shards}


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1)),
        ({"examples": 8}, (1, 8)),
        ({"examples": 2}, (4, 2)),
        ({"examples": 3}, (2, 3)),
        ({"population": 2}, (2, 1)),
        ({"population": 2, "examples": 4}, (2, 4)),
    ],
)
def test_mesh_sizes(sizes, shape):
    mesh = make_mesh(**sizes)
    assert mesh.axis_names == ("population", "examples")
    assert mesh.devices.shape == shape
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_mesh_of_chosen_devices():
    chosen = jax.devices()[4:]
    mesh = make_mesh(devices=chosen)
    assert set(mesh.devices.flat) == set(chosen)


def test_mesh_errors():
    with pytest.raises(ValueError, match="needs 12 devices, and there are 8"):
        make_mesh(population=4, examples=3)
    with pytest.raises(ValueError, match="needs 9 devices, and there are 8"):
        make_mesh(examples=9)
    with pytest.raises(ValueError, match="needs 2 devices, and there are 1"):
        make_mesh(population=2, devices=jax.devices()[:1])
    for sizes in ({"population": 0}, {"examples": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            make_mesh(**sizes)


def test_shard_places_the_first_axis():
    mesh = make_mesh(population=4, examples=2)
    tree = {
        "w": jnp.arange(48.0).reshape(8, 6),
        "keys": jax.random.split(jax.random.key(0), 8),
        "step": jnp.int32(3),
        "none": None,
    }
    placed = shard(tree, mesh, "population")
    assert placed["w"].sharding.spec == PartitionSpec("population")
    assert _shard_shapes(placed["w"]) == {(2, 6)}
    assert placed["keys"].sharding.spec == PartitionSpec("population")
    assert placed["step"].sharding.is_fully_replicated
    assert placed["none"] is None
    np.testing.assert_array_equal(placed["w"], tree["w"])
    np.testing.assert_array_equal(
        jax.random.key_data(placed["keys"]), jax.random.key_data(tree["keys"])
    )
    assert _shard_shapes(shard(tree, mesh, "examples")["w"]) == {(4, 6)}


def test_shard_errors():
    mesh = make_mesh(population=4)
    with pytest.raises(ValueError, match="'a/b' has 6 rows, .* 4 devices .*'populati"):
        shard({"a": {"b": jnp.ones((6, 2))}}, mesh, "population")
    with pytest.raises(ValueError, match="not 'batch'"):
        shard({"a": jnp.ones(4)}, mesh, "batch")


def test_replicate():
    mesh = make_mesh(population=4, examples=2)
    placed = replicate({"w": jnp.arange(5.0), "step": 2}, mesh)
    assert placed["w"].sharding.is_fully_replicated
    assert len(placed["w"].addressable_shards) == 8
    np.testing.assert_array_equal(placed["w"], np.arange(5.0))


def test_shard_examples_pads_with_nothing():
    mesh = make_mesh(examples=4)
    data = _examples(10)
    placed = shard_examples(data, mesh)
    assert _shard_shapes(placed.x) == {(3, 3)}
    for field in Examples._fields:
        np.testing.assert_array_equal(getattr(placed, field)[:10], getattr(data, field))
    np.testing.assert_array_equal(placed.weight[10:], [0, 0])
    np.testing.assert_array_equal(placed.id[10:], [-1, -1])
    assert np.isfinite(placed.x).all()
    assert shard_examples(_examples(8), mesh).y.shape == (8,)


def test_computations_agree_with_one_device():
    mesh = make_mesh(population=2, examples=4)
    weights = jax.random.normal(jax.random.key(0), (4, 3))
    data = _examples(10)

    @jax.jit
    def means(weights, data):
        scores = data.x @ weights.T * data.weight[:, None]
        return scores.sum(0) / data.weight.sum()

    placed = means(shard(weights, mesh, "population"), shard_examples(data, mesh))
    np.testing.assert_allclose(placed, means(weights, data), rtol=1e-6)


def test_shard_inside_jit():
    mesh = make_mesh()
    placed = jax.jit(lambda x: shard(x * 2, mesh, "population"))(jnp.arange(8.0))
    assert _shard_shapes(placed) == {(1,)}


EXPLICIT = jax.make_mesh((8,), ("population",), axis_types=(AxisType.Explicit,))
OTHER = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
SPLIT = jax.sharding.NamedSharding(EXPLICIT, PartitionSpec("population"))
DATA, CLASSIFIER = toys.points(), toys.perceptron()
VARIABLES = CLASSIFIER.init(jax.random.key(0), DATA.x)
OPTIMIZER = optax.sgd(0.1)


def _populate(**options):
    key = jax.random.key(0)
    options = dict(members=2, progress=False) | options
    return hf.fit_population(key, CLASSIFIER, DATA, OPTIMIZER, 2, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda: shard(jnp.ones(8), EXPLICIT, "population"),
        lambda: replicate(jnp.ones(8), EXPLICIT),
        lambda: shard_examples(DATA, EXPLICIT),
        lambda: _populate(mesh=EXPLICIT),
        lambda: hf.pgu(CLASSIFIER, mesh=EXPLICIT),
        lambda: hf.subspace.measure(CLASSIFIER, VARIABLES, DATA, mesh=EXPLICIT),
    ],
)
def test_meshes_with_explicit_axes_are_refused_by_name(call):
    with pytest.raises(ValueError, match="explicit axes.*use hf.sharding.make_mesh"):
        call()


def test_what_is_no_mesh_is_refused():
    for call in (lambda: _populate(mesh=8), lambda: hf.pgu(CLASSIFIER, mesh=8)):
        with pytest.raises(TypeError, match="mesh must be a mesh.*make_mesh"):
            call()
    with pytest.raises(ValueError, match="not 'examples'"):
        hf.pgu(
            CLASSIFIER, mesh=jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
        )


METHODS = {
    "ssd": hf.ssd(CLASSIFIER),
    "fiun": hf.fiun(CLASSIFIER),
    "pgu": hf.pgu(CLASSIFIER),
    "ascent": hf.ascent(CLASSIFIER),
}


@pytest.mark.parametrize("method", METHODS)
def test_arrays_on_explicit_axes_are_refused_by_name(method):
    key, unlearner = jax.random.key(1), METHODS[method]
    data = jax.device_put(DATA, SPLIT)
    message = "explicit axes.*use hf.sharding.make_mesh"
    with pytest.raises(ValueError, match="data has arrays on a mesh with " + message):
        unlearner.init(key, VARIABLES, data)
    with pytest.raises(ValueError, match="data has .*" + message):
        jax.jit(unlearner.init)(key, VARIABLES, data)
    whole = jax.sharding.NamedSharding(EXPLICIT, PartitionSpec())
    with pytest.raises(ValueError, match="variables has .*" + message):
        unlearner.init(key, jax.device_put(VARIABLES, whole), DATA)
    state = unlearner.init(key, VARIABLES, DATA)
    request = hf.forget_classes(DATA, [1])._replace(data=data)
    with pytest.raises(ValueError, match="request.*has .*" + message):
        unlearner.unlearn(key, state, request)


def test_training_refuses_arrays_on_explicit_axes():
    key, data = jax.random.key(1), jax.device_put(DATA, SPLIT)
    message = "data has arrays on a mesh with explicit axes"
    with pytest.raises(ValueError, match=message):
        hf.fit(key, CLASSIFIER, data, OPTIMIZER, 2)
    with pytest.raises(ValueError, match=message):
        hf.refresh_statistics(key, CLASSIFIER, VARIABLES, data)
    weights = jax.device_put(jnp.ones((8, 40), jnp.int32), SPLIT)
    with pytest.raises(ValueError, match="weights has arrays on a mesh"):
        _populate(members=8, weights=weights)


def test_arrays_on_automatic_axes_give_what_one_device_gives():
    placed = shard_examples(DATA, make_mesh(examples=8))
    key = jax.random.key(1)
    one, eight = (
        hf.fit(key, CLASSIFIER, data, OPTIMIZER, 4, batch_size=16)
        for data in (DATA, placed)
    )
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        # Sums over devices are taken in another order.
        np.testing.assert_allclose(left, right, atol=1e-5)
