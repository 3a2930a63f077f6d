"""Whole files or none, and damage is noticed."""

import io
import pathlib
import warnings
import zipfile

import numpy as np
import pytest

from hyperforget_jax.data import cache

ARRAYS = {
    "images": np.arange(5000, dtype=np.uint8).reshape(50, 100),
    "labels": np.arange(50, dtype=np.int32),
}


def make():
    return tuple(ARRAYS.values())


def never():
    raise AssertionError("made again")


def assert_is_arrays(found):
    for have, want in zip(found, ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(have, want)
        assert have.dtype == want.dtype


def test_made_once(tmp_path):
    path = tmp_path / "deep" / "file.npz"
    assert_is_arrays(cache.cached(path, list(ARRAYS), make))
    with warnings.catch_warnings(action="error"):
        assert_is_arrays(cache.cached(path, list(ARRAYS), never))
    assert [file.name for file in path.parent.iterdir()] == ["file.npz"]


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch, failure):
    def fail(file, **arrays):
        file.write(b"half of it")
        file.flush()
        assert len(list(tmp_path.iterdir())) == 1
        raise failure

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(type(failure)):
        cache.write_arrays(tmp_path / "file.npz", ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    cache.write_arrays(path, ARRAYS)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no rename")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no rename"):
        cache.write_arrays(path, {"images": np.zeros(3)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way of a folder")
    with pytest.warns(UserWarning, match="cannot be written.*decodes again"):
        found = cache.cached(tmp_path / "file" / "a.npz", list(ARRAYS), make)
    assert_is_arrays(found)


def truncate(data):
    return data[: len(data) // 2]


def flip_a_bit(data):
    # In the middle of the images: the archive's own tables stay whole.
    middle = data.index(bytes(range(100, 120)))
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def empty(_):
    return b""


def rubbish(_):
    return b"not an archive at all"


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, rubbish])
def test_damage_is_noticed_and_mended(tmp_path, damage):
    path = tmp_path / "file.npz"
    cache.write_arrays(path, ARRAYS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged.*made again"):
        assert_is_arrays(cache.cached(path, list(ARRAYS), make))
    assert_is_arrays(cache.cached(path, list(ARRAYS), never))


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, images=np.array([object()]), labels=ARRAYS["labels"])
    with pytest.warns(UserWarning, match="is damaged"):
        assert_is_arrays(cache.cached(path, list(ARRAYS), make))


def test_an_archive_without_the_arrays_is_made_again(tmp_path):
    path = tmp_path / "file.npz"
    cache.write_arrays(path, {"images": ARRAYS["images"]})
    with pytest.warns(UserWarning, match="is damaged.*labels"):
        assert_is_arrays(cache.cached(path, list(ARRAYS), make))


def absurd(shape, dtype="|u1"):
    """An array's file whose header claims what its bytes do not hold."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(8)


@pytest.mark.parametrize(
    "member",
    [
        absurd((10**15, 28, 28, 1)),
        absurd((2**62, 2**62)),
        absurd((50, 100), "|O"),
        b"\x93NUMPY\x01\x00\x10\x00{'shape': import}",
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_crafted_archives_are_made_again(tmp_path, member):
    path = tmp_path / "file.npz"
    cache.write_arrays(path, {"labels": ARRAYS["labels"]})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images.npy", member)
    with pytest.warns(UserWarning, match="file.npz is damaged.*made again"):
        assert_is_arrays(cache.cached(path, list(ARRAYS), make))


def test_what_make_would_not_make_is_made_again(tmp_path):
    path = tmp_path / "file.npz"
    cache.write_arrays(path, {**ARRAYS, "labels": np.zeros(3)})

    def check(images, labels):
        if labels.shape != images.shape[:1]:
            raise ValueError("labels are of another shape")

    with pytest.warns(UserWarning, match="is damaged .labels are of another shape"):
        assert_is_arrays(cache.cached(path, list(ARRAYS), make, check))
    assert_is_arrays(cache.cached(path, list(ARRAYS), never, check))


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERFORGET_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"
    assert cache.cache_folder(tmp_path / "named") == tmp_path / "named"
    monkeypatch.delenv("HYPERFORGET_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "hyperforget_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    home = pathlib.Path.home()
    assert cache.cache_folder() == home / ".cache" / "hyperforget_jax"
