"""Fixed constants, applied as the formula says."""

import numpy as np
import pytest

from hyperforget_jax.data import load
from hyperforget_jax.data.normalisation import KNOWN, normalisation_of, normalise

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_formula(name):
    largest, mean, std = KNOWN[name]
    images = IMAGES[..., : len(mean)]
    floats = normalise(images, KNOWN[name])
    assert floats.dtype == np.float32 and floats.shape == images.shape
    expected = (images / largest - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(floats, expected, rtol=1e-5, atol=1e-6)


def test_published_constants():
    assert KNOWN["mnist"] == (255, (0.1307,), (0.3081,))
    assert KNOWN["cifar10"].mean == (0.4914, 0.4822, 0.4465)
    assert KNOWN["cifar10"].std == (0.2470, 0.2435, 0.2616)


def test_any_other_data_set_maps_to_minus_one_and_one():
    ends = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    floats = normalise(ends, normalisation_of("never_heard_of"))
    np.testing.assert_allclose(np.ravel(floats), [-1, 1], atol=1e-6)


def test_version_does_not_change_the_constants():
    assert normalisation_of("mnist:3.0.1") is KNOWN["mnist"]


def test_constants_do_not_depend_on_the_rows():
    whole = normalise(IMAGES, KNOWN["cifar10"])
    np.testing.assert_array_equal(normalise(IMAGES[3:], KNOWN["cifar10"]), whole[3:])


def test_digits_constants_are_those_of_all_its_rows():
    x = np.concatenate([np.ravel(part.x) for part in load("digits")])
    assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3
