"""Data to read: the prepared sets if they are there, and tiny ones made on the spot."""

import io
import json
import os
import pathlib

import numpy as np
import PIL.Image
import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("HYPERFORGET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def prepared():
    """``prepared(name)``: the folder that holds a prepared data set, or a skip."""
    root = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    root = root.expanduser()

    def find(name):
        if not list(root.glob(f"{name}/*/dataset_info.json")):
            pytest.skip(f"{name} is not prepared in {root} (set TFDS_DATA_DIR)")
        return root

    return find


@pytest.fixture
def make_tiny(tmp_path):
    """``make_tiny(...)``: writes a data set as tfds lays it out, without TensorFlow."""

    def make(root=tmp_path / "tfds", name="tiny_shapes", version="1.0.0", **options):
        write_tiny(root / name / version, name.split("/")[0], version, **options)
        return root

    return make


@pytest.fixture(scope="session")
def tiny_arrays():
    """``tiny_arrays(split, seed)``: the images and labels that ``make_tiny`` wrote."""
    return draw_tiny


def draw_tiny(split, seed=0, shape=(4, 5, 3)):
    rng = np.random.default_rng([seed, len(split)])
    num_rows = {"train": 30, "test": 9}[split]
    images = rng.integers(0, 256, (num_rows, *shape), dtype=np.uint8)
    return images, np.arange(num_rows) % 3


def write_tiny(
    folder,
    name,
    version,
    *,
    seed=0,
    shape=(4, 5, 3),
    declared_shape=None,
    dtype=np.uint8,
    label_name="label",
    splits=("train", "test"),
    file_format="array_record",
):
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_pb2

    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=declared_shape or shape, dtype=dtype),
            label_name: tfds.features.ClassLabel(num_classes=3),
        }
    )
    features.save_config(folder)
    infos = []
    for split in splits:
        images, labels = draw_tiny(split, seed, shape)
        # Spelled out, because tfds writes records by means of TensorFlow.
        file = folder / f"{name}-{split}.{file_format}-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
        for image, label in zip(images, labels, strict=True):
            png = io.BytesIO()
            PIL.Image.fromarray(image).save(png, "PNG")
            record = tf_example_pb2.Example()
            entry = record.features.feature
            entry["image"].bytes_list.value.append(png.getvalue())
            entry[label_name].int64_list.value.append(int(label))
            writer.write(record.SerializeToString())
        writer.close()
        infos.append(
            {
                "name": split,
                "shardLengths": [str(len(labels))],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {
        "name": name,
        "version": version,
        "fileFormat": file_format,
        "splits": infos,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
