"""Three disjoint parts, the same at every load, decoded once."""

import shutil
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperforget_jax.checks import check_examples
from hyperforget_jax.data import Splits, load, tfds_source
from hyperforget_jax.data.normalisation import normalisation_of, normalise


def assert_well_made(splits, shape, num_classes):
    ids = np.concatenate([part.id for part in splits])
    assert np.unique(ids).size == ids.size
    for name, part in zip(Splits._fields, splits, strict=True):
        check_examples(part, num_classes=num_classes, name=name)
        chex.assert_type(list(part), [np.float32, np.int32, np.int32, np.int32])
        assert part.x.shape[1:] == shape
        assert set(np.unique(part.y)) == set(range(num_classes))
        assert np.all(np.diff(part.id) > 0)
        assert np.all(part.weight == 1)


def assert_stratified(splits, fraction):
    train, probe = (np.bincount(part.y) for part in splits[:2])
    assert np.all(np.abs(probe - fraction * (train + probe)) <= 1)


def test_digits():
    splits = load()
    assert_well_made(splits, (8, 8, 1), 10)
    assert_stratified(splits, 0.2)
    assert [part.y.size for part in splits] == [1118, 279, 400]
    ids = np.concatenate([part.id for part in splits])
    assert np.array_equal(np.sort(ids), np.arange(1797))


def test_digits_ids_are_places_in_the_file():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    for part in load("digits"):
        np.testing.assert_array_equal(part.y, labels[part.id])
        expected = (pixels[part.id].reshape(-1, 8, 8, 1) / 16 - 0.3053) / 0.3760
        np.testing.assert_allclose(part.x, expected, atol=1e-6)


def test_no_image_of_digits_is_in_two_parts():
    rows = [set(map(bytes, np.asarray(part.x))) for part in load()]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_loads_are_equal():
    chex.assert_trees_all_equal(load(), load())


def test_probe_fraction():
    splits = load(probe_fraction=0.5)
    assert_stratified(splits, 0.5)
    chex.assert_trees_all_equal(splits.test, load().test)


@pytest.mark.parametrize("fraction", [0, 1, -1, 2])
def test_probe_fraction_message(fraction):
    with pytest.raises(ValueError, match=f"probe_fraction must lie.*got {fraction}"):
        load(probe_fraction=fraction)


@pytest.mark.parametrize("wrong", [None, 3, ["mnist"]])
def test_a_name_that_is_none(wrong):
    with pytest.raises(TypeError, match="name must be a string"):
        load(wrong)
    with pytest.raises(TypeError, match="probe_fraction must be a number"):
        load(probe_fraction="half")


def test_another_data_set_by_name(make_tiny, tiny_arrays):
    splits = load("tiny_shapes", data_dir=make_tiny())
    assert_well_made(splits, (4, 5, 3), 3)
    assert [part.y.size for part in splits] == [27, 3, 9]
    constants = normalisation_of("tiny_shapes")
    images, labels = tiny_arrays("train")
    for part in splits[:2]:
        expected = normalise(images[part.id], constants)
        chex.assert_trees_all_equal(part.x, expected)
        np.testing.assert_array_equal(part.y, labels[part.id])
    images, labels = tiny_arrays("test")
    chex.assert_trees_all_equal(splits.test.x, normalise(images, constants))
    assert splits.test.id.tolist() == list(range(30, 39))
    assert float(jnp.abs(splits.train.x).max()) <= 1 + 1e-6


def test_the_second_load_neither_decodes_nor_asks_tfds(make_tiny, monkeypatch):
    root = make_tiny()
    first = load("tiny_shapes", data_dir=root)

    def never(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(tfds_source, "read_split", never)
    # None makes every import of it fail.
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    chex.assert_trees_all_equal(load("tiny_shapes", data_dir=root), first)


def test_cache_dir_argument(make_tiny, tmp_path, private_cache):
    load("tiny_shapes", data_dir=make_tiny(), cache_dir=tmp_path / "here")
    assert len(list((tmp_path / "here").iterdir())) == 2
    assert not private_cache.exists()


def test_a_damaged_cache_is_decoded_again(make_tiny, private_cache):
    root = make_tiny()
    first = load("tiny_shapes", data_dir=root)
    for file in private_cache.iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged"):
        chex.assert_trees_all_equal(load("tiny_shapes", data_dir=root), first)


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((30, 4, 5, 3), np.float32)},
        {"images": np.zeros((30, 60), np.uint8)},
        {"labels": np.zeros(29, np.int32)},
        {"labels": np.zeros(30)},
    ],
)
def test_a_crafted_cache_is_decoded_again(make_tiny, private_cache, change):
    root = make_tiny()
    first = load("tiny_shapes", data_dir=root)
    (file,) = private_cache.glob("*train*")
    with np.load(file) as held:
        arrays = dict(held)
    np.savez(file, **{**arrays, **change})
    with pytest.warns(UserWarning, match="is damaged .*not"):
        chex.assert_trees_all_equal(load("tiny_shapes", data_dir=root), first)


def test_versions_do_not_share_a_cache(make_tiny, tiny_arrays, private_cache):
    root = make_tiny()
    make_tiny(version="1.2.0", seed=1)
    make_tiny(version="1.10.0", seed=2)
    newest = load("tiny_shapes", data_dir=root)
    old = load("tiny_shapes:1.0.0", data_dir=root)
    assert not np.array_equal(newest.test.x, old.test.x)
    expected = normalise(tiny_arrays("test", seed=2)[0], normalisation_of(""))
    chex.assert_trees_all_equal(newest.test.x, expected)
    names = {file.name.rsplit("-", 1)[0] for file in private_cache.iterdir()}
    assert names == {
        f"tiny_shapes-{version}-{split}"
        for version in ("1.0.0", "1.10.0")
        for split in ("train", "test")
    }


def test_copies_of_one_version_do_not_share_a_cache(make_tiny, tmp_path):
    one = load("tiny_shapes", data_dir=make_tiny(tmp_path / "one"))
    two = load("tiny_shapes", data_dir=make_tiny(tmp_path / "two", seed=1))
    assert not np.array_equal(one.train.x, two.train.x)


def test_a_data_set_prepared_anew_in_place_is_decoded_again(make_tiny):
    root = make_tiny()
    one = load("tiny_shapes", data_dir=root)
    shutil.rmtree(root)
    make_tiny(seed=1)
    two = load("tiny_shapes", data_dir=root)
    assert not np.array_equal(one.train.x, two.train.x)


def test_environment_is_read_at_every_call(make_tiny, tmp_path, monkeypatch):
    import tensorflow_datasets  # noqa: F401  (it reads the variable now, and only now)

    make_tiny(tmp_path / "late")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "late"))
    assert load("tiny_shapes").test.y.size == 9


@pytest.mark.parametrize(
    "name", ["no_such_data", "No Such", "../mnist", "", "mnist/.."]
)
def test_unknown_data_set(name, tmp_path):
    with pytest.raises(ValueError, match="There is no data set") as caught:
        load(name, data_dir=tmp_path)
    assert repr(name) in str(caught.value)
    assert "cifar10, cifar100, digits, fashion_mnist" in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "kmnist", "emnist", "emnist/letters"])
def test_not_prepared(name, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load(name, data_dir=tmp_path / "empty")
    message = str(caught.value)
    assert repr(name) in message and str(tmp_path / "empty") in message
    assert "pip install tensorflow-cpu" in message and "prepare" in message
    assert f'tfds.data_source("{name}", download=True)' in message
    assert "TFDS_DATA_DIR" in message


def test_not_prepared_names_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist")
    assert str(tmp_path / "tensorflow_datasets") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("mnist", (28, 28, 1), [54_000, 6_000, 10_000]),
        ("cifar10", (32, 32, 3), [45_000, 5_000, 10_000]),
    ],
)
@pytest.mark.slow
def test_prepared_data_sets(prepared, name, shape, sizes):
    splits = load(name, data_dir=prepared(name))
    assert_well_made(splits, shape, 10)
    assert_stratified(splits, 0.1)
    assert [part.y.size for part in splits] == sizes
    ids = np.concatenate([part.id for part in splits])
    assert np.array_equal(np.sort(ids), np.arange(sum(sizes)))
    # Normalised by the training file's own figures: a tenth of it is nearly standard.
    assert abs(float(splits.probe.x.mean())) < 0.02
    assert abs(float(splits.probe.x.std()) - 1) < 0.02
    # The second time from the cache: the same to the bit.
    again = load(name, data_dir=prepared(name))
    for before, after in zip(*map(jax.tree.leaves, (splits, again)), strict=True):
        np.testing.assert_array_equal(before, after)
