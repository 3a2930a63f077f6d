"""Paths of this machine alone, files that are whole, and one writer at a time."""

import os
import pathlib
import signal
import subprocess
import sys

import etils.epath
import jax
import jax.numpy as jnp
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import atomic_write, checkpointing, hypernet, inheritance, report
from hyperforget_jax.data import cache
from tests import toys

KEY = jax.random.key(0)


def test_local_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for given, expected in [
        ("a/b", tmp_path / "a" / "b"),
        (pathlib.Path("a"), tmp_path / "a"),
        ("~/runs", pathlib.Path("/home/me/runs")),
        ("/data/c:d", pathlib.Path("/data/c:d")),
        ("a:b/c", tmp_path / "a:b" / "c"),
    ]:
        assert atomic_write.local_path("path", given) == expected


@pytest.mark.parametrize("wrong", [None, 3, b"bytes", ["a"], 1.5])
def test_what_is_no_path(wrong):
    with pytest.raises(TypeError, match=f"here must be a path.*{type(wrong).__name__}"):
        atomic_write.local_path("here", wrong)


@pytest.mark.parametrize("wrong", ["", " ", "a\0b"])
def test_a_path_that_names_nothing(wrong):
    with pytest.raises(ValueError, match="here=.* is no path"):
        atomic_write.local_path("here", wrong)


REMOTE = [
    *("gs://bucket/run", "s3://bucket", "https://host/x", "abfs+ssl://c/x"),
    pathlib.Path("gs://bucket/run"),
    etils.epath.Path("gs://bucket/run"),
]


@pytest.mark.parametrize("path", REMOTE, ids=repr)
def test_remote_stores_are_refused_by_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier, data = toys.softmax_regression(), toys.points()

    def make(part):
        raise AssertionError("made")

    calls = [
        lambda: checkpointing.save(path, {"a": jnp.ones(2)}, kind="k"),
        lambda: checkpointing.load(path),
        lambda: checkpointing.read_manifest(path),
        lambda: hf.data.load("mnist", data_dir=path),
        lambda: cache.cache_folder(path),
        lambda: hf.fit_population(
            KEY, classifier, data, optax.sgd(0.1), 1, members=1, directory=path
        ),
        lambda: hypernet.stored_zoo(path, 1, make),
        lambda: hypernet.load_zoo(path),
        lambda: inheritance.load(path),
        lambda: report.read(path),
        lambda: atomic_write.replace_file(path).__enter__(),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is on a remote store.* mount the store"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_told_who_has_it(tmp_path):
    path = tmp_path / "deep" / "v"
    with atomic_write.lock("path", path):
        message = f"path=.*v.* is being written by another run .process {os.getpid()}"
        with pytest.raises(BlockingIOError, match=message):
            with atomic_write.lock("path", path):
                raise AssertionError("two at once")
        with atomic_write.lock("path", tmp_path / "deep" / "w"):
            pass  # Neighbours are free.
        assert [each.name for each in path.parent.iterdir()] == [".v.lock"]
    assert list(path.parent.iterdir()) == []
    with atomic_write.lock("path", path):
        pass


def test_a_failure_lets_go(tmp_path):
    with pytest.raises(KeyError), atomic_write.lock("path", tmp_path / "v"):
        raise KeyError
    with atomic_write.lock("path", tmp_path / "v"):
        pass


def test_no_directory_is_nobodys():
    with atomic_write.lock("path", None), atomic_write.lock("path", None):
        pass


def test_file_systems_without_locks(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with atomic_write.lock("path", tmp_path / "v"):
        pass
    assert list(tmp_path.iterdir()) == []


_HOLD = """
import sys, time, types
package = sys.modules["hyperforget_jax"] = types.ModuleType("hyperforget_jax")
package.__path__ = [sys.argv[1]]
from hyperforget_jax import atomic_write
with (
    atomic_write.lock("path", sys.argv[2]),
    atomic_write.lock("directory", sys.argv[3], ".run.lock"),
):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def held(tmp_path):
    """A process that writes ``v`` and runs in ``runs``."""
    folder = pathlib.Path(atomic_write.__file__).parent
    paths = [str(tmp_path / "v"), str(tmp_path / "runs")]
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder), *paths], stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    yield child
    child.kill()
    child.wait()


def test_other_processes(tmp_path, held):
    tree = {"a": jnp.ones(2)}
    train = (KEY, toys.softmax_regression(), toys.points(), optax.sgd(0.1), 1)

    def save():
        return checkpointing.save(tmp_path / "v", tree, kind="k")

    def fit():
        options = dict(members=1, directory=tmp_path / "runs", progress=False)
        return hf.fit_population(*train, **options)

    for call in (save, fit):
        with pytest.raises(BlockingIOError, match=f"process {held.pid} on "):
            call()
    # One that is killed leaves its files, and holds nothing.
    held.send_signal(signal.SIGKILL)
    held.wait()
    assert (tmp_path / ".v.lock").exists()
    save(), fit()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["runs", "v"]
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["chunk-00000"]


def test_a_new_folder_is_whole_or_not_there(tmp_path):
    out = tmp_path / "above" / "out"
    with pytest.raises(RuntimeError), atomic_write.new_folder("out", out) as draft:
        (draft / "part").write_text("half")
        assert not out.exists()
        raise RuntimeError
    assert list(out.parent.iterdir()) == []
    out.mkdir()  # Empty, and so free.
    with atomic_write.new_folder("out", out) as draft:
        (draft / "part").write_text("whole")
        with pytest.raises(BlockingIOError, match="being written by another run"):
            with atomic_write.new_folder("out", out):
                pass
    assert [each.name for each in out.parent.iterdir()] == ["out"]
    for taken in (out, out / "part"):
        with pytest.raises(FileExistsError, match="holds something, which is kept"):
            with atomic_write.new_folder("out", taken):
                pass
    assert (out / "part").read_text() == "whole"
