"""Records as arrays, and a clear word where a data set does not fit."""

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
