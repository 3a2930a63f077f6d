"""Files that are whole, or not there: paths, locks, and writing in one step."""

import contextlib
import os
import pathlib
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["local_path", "lock", "new_folder", "replace_file"]

# "gs://bucket", and "gs:/bucket", which pathlib makes of it. One letter is a drive.
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(name: str, path: Any) -> pathlib.Path:
    """Make the path of a file or folder of this machine absolute, ``~`` being the home.

    Args:
        name: the argument that it came by, for messages.
        path: a string or path.

    Raises:
        TypeError: neither.
        ValueError: an empty path, or one of a remote store (``gs://``, ``s3://``).
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(
            f"{name} must be a path, a string or a pathlib.Path, got "
            f"{type(path).__name__}."
        )
    if _REMOTE.match(text):
        raise ValueError(
            f"{name}={text!r} is on a remote store, and only local folders are read "
            "and written: mount the store (gcsfuse, s3fs), or copy the folder when it "
            "is written."
        )
    if not text.strip() or "\0" in text:
        raise ValueError(f"{name}={text!r} is no path: name a file or folder.")
    return pathlib.Path(os.path.expanduser(text)).absolute()


@contextlib.contextmanager
def lock(
    name: str, path: str | os.PathLike[str] | None, file: str = "../.{name}.lock"
) -> Iterator[None]:
    """Hold a path for one writer; the error that the next one gets says who has it.

    The lock belongs to the process: one that was killed holds nothing, whatever file
    it left behind. Where the file system has no locks, nothing is held.

    Args:
        name: the argument that the path came by, for messages.
        path: what is to be written; None for nothing, which nobody holds.
        file: the lock's file, as seen from the path, which is called ``{name}``; by
            default beside it. Its folder is made if need be.

    Raises:
        BlockingIOError: another writer has it, in this process or another.
    """
    if path is None:
        yield
        return
    path = local_path(name, path)
    # Not by the file system, to which a path that is not there has no "..".
    place = pathlib.Path(os.path.normpath(path / file.format(name=path.name)))
    place.parent.mkdir(parents=True, exist_ok=True)
    held = _take(place)
    if held is None:
        try:
            holder = place.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            holder = ""
        raise BlockingIOError(
            f"{name}={str(path)!r} is being written by another run"
            f"{f' ({holder})' if holder else ''}: wait for it, or choose another path."
        )
    with held:
        try:
            held.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            held.flush()
            yield
        finally:
            place.unlink(missing_ok=True)


def _take(lock: pathlib.Path) -> IO[str] | None:
    """Open and hold the lock's file; None where another has it."""
    # Not for Windows, like the syncs of folders elsewhere.
    import fcntl

    while True:
        file = open(lock, "a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            return file  # A file system without locks.
        try:
            if os.path.samestat(os.stat(lock), os.fstat(file.fileno())):
                file.truncate(0)
                return file
        except FileNotFoundError:
            pass
        # Between opening and locking, its holder took the file away: again.
        file.close()


@contextlib.contextmanager
def new_folder(name: str, path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Give a folder to fill, which takes its place in one step when that is done.

    After a failure nothing is left behind.

    Args:
        name: the argument that the path came by, for messages.
        path: the folder, which must not be there yet, or be empty.

    Raises:
        TypeError, ValueError: as for :func:`local_path`.
        FileExistsError: something is there, and is kept.
        BlockingIOError: another writer is at work on the path.
    """
    target = local_path(name, path)
    with lock(name, target):
        is_empty = target.is_dir() and not any(target.iterdir())
        if os.path.lexists(target) and not is_empty:
            raise FileExistsError(
                f"{name}={str(target)!r} holds something, which is kept: name a folder "
                "that is not there yet, or is empty."
            )
        draft = target.with_name(f".{target.name}.unfinished")
        # What a writer left that was killed: nobody else holds the lock.
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir()
            yield draft
            os.rename(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def replace_file(
    path: str | os.PathLike[str], mode: str = "w", *, errors: str | None = None
) -> Iterator[IO[Any]]:
    """Open a file that takes its place in one step, when all of it is on the disk.

    Until then, and after a failure, whatever was there before stays as it was, and
    nothing else is left behind. Text is UTF-8.

    Args:
        path: the file; its folder is made if need be.
        mode: ``"w"`` for text, ``"wb"`` for bytes.
        errors: what becomes of text that UTF-8 cannot hold, as for :func:`open`.

    Raises:
        TypeError, ValueError: as for :func:`local_path`.
        OSError: the file cannot be written.
    """
    path = local_path("path", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a rename is atomic only within one file system; and of
    # a name of its own, since another writer may be at work on the same path.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    encoding = None if "b" in mode else "utf-8"
    try:
        with open(draft, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
