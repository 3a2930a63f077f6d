"""Data sets by name: read, cut into three, normalised."""

import numbers
import os

import numpy as np

from hyperforget_jax.base import Examples
from hyperforget_jax.checks import check_is
from hyperforget_jax.data import cache, tfds_source
from hyperforget_jax.data.arrays import examples
from hyperforget_jax.data.normalisation import normalisation_of, normalise
from hyperforget_jax.data.splits import Splits, stratified_split
from hyperforget_jax.data.tfds_source import Labelled

__all__ = ["load"]

_DIGITS_TEST_ROWS = 400


def load(
    name: str = "digits",
    *,
    probe_fraction: float | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Splits:
    """Load a data set as train, probe and test examples.

    ``digits`` comes with scikit-learn: 1118 train, 279 probe and 400 test images of
    8 by 8 pixels. Every other name is an image data set of TensorFlow Datasets, for
    instance ``mnist``, ``fashion_mnist``, ``kmnist``, ``cifar10``, ``cifar100`` or
    ``svhn_cropped``, which must have been prepared; it is decoded once, and read from
    a cache from then on. Its test file is the test split.

    The probe is cut out of the training file, class by class, and the cut is always
    the same. An example's id is its place in the training file; test ids go on from
    there. (``digits`` is one file: ids are places in it.) Pixels are normalised by
    constants fixed for each data set.

    Args:
        name: the data set; ``name/config`` and ``name:1.0.0`` are understood.
        probe_fraction: the probe's share of the training file; by default 0.1, and
            0.2 for ``digits``, which is small.
        data_dir: where prepared data sets are; by default the folder named by the
            environment variable ``TFDS_DATA_DIR``, else ``~/tensorflow_datasets``.
        cache_dir: where decoded arrays are kept; by default the folder named by
            ``HYPERFORGET_CACHE_DIR``, else the user's cache folder.

    Returns:
        Splits whose inputs are float32, ``[N, H, W, C]``.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: an unknown data set, one without fixed images and labels, one
            whose files are damaged, folders that are not local, or a fraction that
            leaves no probe or no training examples.
        FileNotFoundError: the data set has not been prepared.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string such as 'digits', got {name!r}.")
    if probe_fraction is None:
        probe_fraction = 0.2 if name == "digits" else 0.1
    check_is(numbers.Real, "a number", probe_fraction=probe_fraction)
    if not 0 < probe_fraction < 1:
        raise ValueError(
            f"probe_fraction must lie between 0 and 1, got {probe_fraction}."
        )
    if name == "digits":
        train, train_ids, test, test_ids = _digits()
    else:
        train, test = _from_tfds(name, data_dir, cache_dir)
        train_ids = np.arange(len(train.labels))
        test_ids = len(train.labels) + np.arange(len(test.labels))
    constants = normalisation_of(name)

    def part(data: Labelled, ids: np.ndarray) -> Examples:
        return examples(normalise(data.images, constants), data.labels, id=ids)

    rest, probe = stratified_split(train.labels, probe_fraction)
    return Splits(
        part(_take(train, rest), train_ids[rest]),
        part(_take(train, probe), train_ids[probe]),
        part(test, test_ids),
    )


def _digits() -> tuple[Labelled, np.ndarray, Labelled, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    data = Labelled(pixels.reshape(-1, 8, 8, 1).astype(np.uint8), labels)
    train, test = stratified_split(data.labels, _DIGITS_TEST_ROWS / data.labels.size)
    return _take(data, train), train, _take(data, test), test


def _from_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> tuple[Labelled, Labelled]:
    folder = tfds_source.prepared_folder(name, data_dir)
    # Config and version are in the folder's path, whether or not they are in the name.
    dataset = "-".join(folder.relative_to(tfds_source.data_folder(data_dir)).parts)
    stamp = tfds_source.fingerprint(folder)

    def split(which: str) -> Labelled:
        path = cache.cache_folder(cache_dir) / f"{dataset}-{which}-{stamp}.npz"
        return Labelled(
            *cache.cached(
                path,
                Labelled._fields,
                lambda: tfds_source.read_split(folder, which),
                tfds_source.check_labelled,
            )
        )

    return split("train"), split("test")


def _take(data: Labelled, rows: np.ndarray) -> Labelled:
    return Labelled(data.images[rows], data.labels[rows])
