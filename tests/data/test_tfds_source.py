"""Records as arrays, and a clear word where a data set does not fit."""

import json

import chex
import numpy as np
import pytest

from hyperforget_jax.data import load, tfds_source


@pytest.mark.parametrize("block_bytes", [1, 400, 2**20])
def test_blocks_do_not_show(make_tiny, tiny_arrays, monkeypatch, block_bytes):
    monkeypatch.setattr(tfds_source, "_BLOCK_BYTES", block_bytes)
    folder = tfds_source.prepared_folder("tiny_shapes", make_tiny())
    for split in ("train", "test"):
        images, labels = tiny_arrays(split)
        found = tfds_source.read_split(folder, split)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)
        chex.assert_type(list(found), [np.uint8, np.int32])


def test_configurations(make_tiny):
    root = make_tiny(name="tiny_shapes/round")
    folder = root / "tiny_shapes" / "round" / "1.0.0"
    for name in ("tiny_shapes/round", "tiny_shapes/round:1.0.0"):
        assert tfds_source.prepared_folder(name, root) == folder


def test_default_configuration(tmp_path):
    # What `emnist` alone means is written in tfds and nowhere on disk.
    folder = tmp_path / "emnist" / "byclass" / "3.1.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    assert tfds_source.prepared_folder("emnist", tmp_path) == folder


def test_a_folder_half_made_is_not_prepared(tmp_path):
    (tmp_path / "mnist" / "3.0.1.incompleteABC").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1").mkdir()
    with pytest.raises(FileNotFoundError, match="has not been prepared yet"):
        tfds_source.prepared_folder("mnist", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"declared_shape": (None, None, 3)},
            "without a fixed shape.*hf.data.examples",
        ),
        ({"label_name": "colour"}, r"no feature 'label', only \['colour', 'image'\]"),
        ({"splits": ("train",)}, r"tiny_shapes:1.0.0 has no split 'test'.*\['train'\]"),
        ({"dtype": np.uint16}, "images of .*uint16.*, not uint8"),
    ],
)
def test_data_sets_that_do_not_fit(make_tiny, options, message):
    with pytest.raises(ValueError, match=message):
        load("tiny_shapes", data_dir=make_tiny(**options))


def test_tfrecords_cannot_be_read(make_tiny):
    root = make_tiny(file_format="tfrecord")
    with pytest.raises(FileNotFoundError, match="as array_record files in .*tiny"):
        load("tiny_shapes", data_dir=root)


def only_file(root, pattern):
    (file,) = (root / "tiny_shapes" / "1.0.0").glob(pattern)
    return file


def flip(data):
    # The last records: before them is the file's table, behind them padding.
    return bytes(
        byte ^ (0xFF if 0 < row < 3000 else 0) for row, byte in enumerate(data)
    )


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", flip, lambda b: b"x" * 99]
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_damaged_records_name_file_and_data_set(make_tiny, split, damage):
    root = make_tiny()
    file = only_file(root, f"*-{split}.*")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="is damaged.*prepare.*anew") as caught:
        load("tiny_shapes", data_dir=root)
    assert str(file) in str(caught.value)
    assert "tiny_shapes:1.0.0" in str(caught.value)


def test_every_flipped_byte_is_noticed_or_harmless(make_tiny, tiny_arrays):
    root = make_tiny()
    folder, file = root / "tiny_shapes" / "1.0.0", only_file(root, "*-test.*")
    whole = file.read_bytes()
    rng, noticed = np.random.default_rng(0), 0
    images, labels = tiny_arrays("test")
    used = [row for row, byte in enumerate(whole) if byte]
    for place in rng.choice(used, 20, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        file.write_bytes(flipped)
        try:
            found = tfds_source.read_split(folder, "test")
        except ValueError as error:
            assert str(file) in str(error)
            noticed += 1
        else:
            np.testing.assert_array_equal(found.images, images)
            np.testing.assert_array_equal(found.labels, labels)
    assert noticed > 10


def test_a_missing_file_is_named(make_tiny):
    root = make_tiny()
    file = only_file(root, "*-test.*")
    file.unlink()
    with pytest.raises(ValueError, match="is damaged") as caught:
        load("tiny_shapes", data_dir=root)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("count", [8, 10])
def test_files_that_hold_more_or_less_than_is_said(make_tiny, count):
    root = make_tiny()
    described = only_file(root, "dataset_info.json")
    info = json.loads(described.read_text())
    info["splits"][1]["shardLengths"] = [str(count)]
    described.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=f"holds 9 records, and .* says {count}"):
        load("tiny_shapes", data_dir=root)


def test_records_of_something_else(make_tiny):
    root = make_tiny()
    other = make_tiny(root.parent / "other", shape=(3, 3, 3))
    file = only_file(root, "*-test.*")
    file.write_bytes(only_file(other, "*-test.*").read_bytes())
    with pytest.raises(ValueError, match="records among 0 to 8 of its split 'test'"):
        load("tiny_shapes", data_dir=root)


def test_labels_of_no_class(make_tiny):
    root = make_tiny()
    described = only_file(root, "features.json")
    text = described.read_text()
    assert '"numClasses": "3"' in text
    described.write_text(text.replace('"numClasses": "3"', '"numClasses": "2"'))
    with pytest.raises(ValueError, match="the label 2 in record 2 of its split"):
        load("tiny_shapes", data_dir=root)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}'])
def test_descriptions_that_cannot_be_read(make_tiny, name, text):
    root = make_tiny()
    only_file(root, name).write_text(text)
    with pytest.raises(ValueError, match="no readable description") as caught:
        load("tiny_shapes", data_dir=root)
    assert str(root / "tiny_shapes" / "1.0.0") in str(caught.value)
