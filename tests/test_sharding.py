"""Arrays land on the devices they were meant for, with the values they had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from hyperforget_jax.base import Examples
from hyperforget_jax.sharding import make_mesh, replicate, shard, shard_examples


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
