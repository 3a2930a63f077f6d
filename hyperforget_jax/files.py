"""Files that are whole, or not there."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["whole"]


@contextlib.contextmanager
def whole(
    path: str | os.PathLike[str], mode: str = "w", *, errors: str | None = None
) -> Iterator[IO[Any]]:
    """Opens a file that takes its place in one step, when all of it is on the disk.

    Until then, and after a failure, whatever was there before stays as it was, and
    nothing else is left behind. Text is UTF-8.

    Args:
        path: the file; its folder is made if need be.
        mode: ``"w"`` for text, ``"wb"`` for bytes.
        errors: what becomes of text that UTF-8 cannot hold, as for :func:`open`.

    Raises:
        OSError: the file cannot be written.
    """
    path = pathlib.Path(path)
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
