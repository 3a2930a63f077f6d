"""Prepared image data sets of TensorFlow Datasets, read without TensorFlow."""

import hashlib
import math
import os
import pathlib
import re
from typing import Any, NamedTuple, NoReturn

import numpy as np

from hyperforget_jax import atomic_write
from hyperforget_jax.data.normalisation import KNOWN
from hyperforget_jax.nearest import did_you_mean

__all__ = [
    "Labelled",
    "check_labelled",
    "data_folder",
    "fingerprint",
    "prepared_folder",
    "read_split",
]

_NAME = re.compile(r"(?P<base>[a-z]\w*)(/(?P<config>\w[\w.+=-]*))?(:(?P<version>.+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_BLOCK_BYTES = 32 * 2**20
_ANEW = "Delete the folder and prepare the data set anew, or copy it again."


class Labelled(NamedTuple):
    """Images as they are stored.

    Attributes:
        images: uint8, ``[N, H, W, C]``.
        labels: int32, ``[N]``.
    """

    images: np.ndarray
    labels: np.ndarray


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Locate the folder of prepared data sets.

    By default that named by the environment variable ``TFDS_DATA_DIR``, read at every
    call, else ``~/tensorflow_datasets``.
    """
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return atomic_write.local_path("data_dir", data_dir)


def prepared_folder(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Locate a prepared data set: of its newest version, if none is named.

    TensorFlow Datasets is not imported where the folder alone gives the answer.

    Args:
        name: ``name``, ``name/config``, and either with ``:version``.
        data_dir: as for :func:`data_folder`.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        _raise_unknown(name)
    base, config, version = parts["base"], parts["config"], parts["version"]
    root = data_folder(data_dir)
    found = _newest(root / base / (config or ""), version)
    if found is None and config is None:
        default = _default_config(name, base)
        found = _newest(root / base / default, version) if default else None
    if found is None:
        _raise_not_prepared(name, root)
    return found


def check_labelled(images: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError unless arrays are such as :func:`read_split` gives."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}, not uint8 [N, H, W, C]"
        )
    if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}, not int32 "
            f"{images.shape[:1]}"
        )


def fingerprint(folder: pathlib.Path) -> str:
    """Compute a short digest that distinguishes two copies of a data set.

    Two copies of one version may differ in their pixels (re-encoded images, say), so
    the digest covers the description and the size and age of every record file.
    """
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
        if file.suffix == ".json":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_split(folder: pathlib.Path, split: str) -> Labelled:
    """Decode every image of a split, in the order of the records.

    Whatever is no data set of labelled uint8 images of one shape, and whatever is
    damaged, is refused by name.
    """
    import tensorflow_datasets as tfds
    from rich.console import Console
    from rich.progress import track

    # From the folder, not by name: the folder found above is the one that is read.
    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:
        raise ValueError(
            f"{folder} holds no readable description of a data set, dataset_info.json "
            f"or features.json is damaged: {error}. {_ANEW}"
        ) from error
    dataset = f"{builder.info.name}:{builder.info.version}"
    shape = _image_shape(builder.info.features, dataset)
    if split not in builder.info.splits:
        raise ValueError(
            f"{dataset} has no split {split!r}, only {sorted(builder.info.splits)}: "
            "build its splits from arrays with hf.data.examples."
        )
    try:
        source: Any = builder.as_data_source(split=split)
    except NotImplementedError:
        # Prepared as TFRecords, which cannot be read by row number.
        _raise_not_prepared(builder.info.name, folder, "as array_record files")
    _check_files(builder.info.splits[split], dataset)
    num_rows = len(source)
    images = np.empty((num_rows, *shape), np.uint8)
    labels = np.empty(num_rows, np.int32)
    # Records come as a list of dicts: block by block, so that it stays short.
    block = min(2048, max(1, _BLOCK_BYTES // math.prod(shape)))
    console = Console(stderr=True)
    for start in track(
        range(0, num_rows, block),
        f"Decoding {dataset} {split}",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        stop = min(start + block, num_rows)
        try:
            records = source.__getitems__(range(start, stop))
            images[start:stop] = [record["image"] for record in records]
            labels[start:stop] = [record["label"] for record in records]
        except Exception as error:
            raise ValueError(
                f"{dataset} has records among {start} to {stop - 1} of its split "
                f"{split!r} that are no labelled images, in {folder}: {error}. {_ANEW}"
            ) from error
    num_classes = getattr(builder.info.features["label"], "num_classes", None)
    known = np.inf if num_classes is None else num_classes
    outside = (labels < 0) | (labels >= known)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"{dataset} has the label {labels[row]} in record {row} of its split "
            f"{split!r}, in {folder}, not below {num_classes}. {_ANEW}"
        )
    return Labelled(images, labels)


def _check_files(split: Any, dataset: str) -> None:
    """Raise ValueError where a file of records is damaged, or not of its length.

    Every chunk of such a file has a hash that is compared when it is read, so nothing
    that was altered gets by. A file that is cut off may look as if it had fewer
    records or none, so their number is compared as well.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
        if ".array_record" not in path.name:
            continue
        try:
            reader = ArrayRecordReader(os.fspath(path))
            held = reader.num_records()
            # Nothing is decoded, and little is held: a tenth of a second for MNIST.
            for start in range(0, held, 64):
                reader.read(start, min(start + 64, held))
        except Exception as error:
            raise ValueError(
                f"{path}, a file of {dataset}, is damaged: {error}. {_ANEW}"
            ) from error
        if held != count:
            raise ValueError(
                f"{path}, a file of {dataset}, is damaged: it holds {held} records, "
                f"and dataset_info.json says {count}. {_ANEW}"
            )


def _image_shape(features: Any, dataset: str) -> tuple[int, ...]:
    for name in ("image", "label"):
        if name not in features:
            raise ValueError(
                f"{dataset} has no feature {name!r}, only {sorted(features)}: it is "
                "no data set of labelled images."
            )
    image, label = features["image"], features["label"]
    if len(image.shape) != 3 or None in image.shape:
        raise ValueError(
            f"{dataset} has images without a fixed shape ({image.shape}): resize them "
            "and use hf.data.examples."
        )
    if np.dtype(image.np_dtype) != np.uint8:
        raise ValueError(f"{dataset} has images of {image.np_dtype}, not uint8.")
    if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
        raise ValueError(
            f"{dataset} has labels of shape {label.shape} and type {label.np_dtype}, "
            "not one integer an image."
        )
    return tuple(image.shape)


def _newest(folder: pathlib.Path, version: str | None) -> pathlib.Path | None:
    if not folder.is_dir():
        return None
    versions = [
        path
        for path in folder.iterdir()
        if _VERSION.fullmatch(path.name)
        and version in (None, path.name)
        and (path / "dataset_info.json").is_file()
    ]
    return max(
        versions,
        key=lambda path: tuple(int(part) for part in path.name.split(".")),
        default=None,
    )


def _default_config(name: str, base: str) -> str | None:
    """Look up what ``base`` without a configuration stands for."""
    import tensorflow_datasets as tfds

    if base not in tfds.list_builders(with_community_datasets=False):
        _raise_unknown(name)
    config = tfds.builder(base).builder_config
    return config.name if config else None


def _raise_unknown(name: str) -> NoReturn:
    near = did_you_mean(name.split(":")[0].lower(), KNOWN)
    raise ValueError(
        f"There is no data set {name!r}{f'; {near}' if near else '.'} Known are "
        f"{', '.join(sorted(KNOWN))}, and every data set of labelled "
        "images in TensorFlow Datasets by its name there."
    )


def _raise_not_prepared(name: str, folder: pathlib.Path, how: str = "yet") -> NoReturn:
    raise FileNotFoundError(
        f"{name!r} has not been prepared {how} in {folder}. If it is elsewhere, name "
        "that folder by data_dir= or the environment variable TFDS_DATA_DIR. To "
        "prepare it, which needs TensorFlow once:\n"
        "    pip install tensorflow-cpu  # this package's extra, prepare\n"
        "    python -c 'import tensorflow_datasets as tfds; tfds.data_source(\""
        f"{name}\", download=True)'\n"
        "which writes to TFDS_DATA_DIR, by default ~/tensorflow_datasets."
    )
