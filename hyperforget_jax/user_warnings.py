"""Warnings that point at the user's own line, through whatever JAX puts in between."""

import os
import pathlib
import sys
import warnings

import jax

__all__ = ["warn_user"]

_PACKAGES = pathlib.Path(__file__), pathlib.Path(jax.__file__)
_SKIPPED = tuple(f"{path.parent}{os.sep}" for path in _PACKAGES)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither this package's nor JAX's.

    Under a trace dozens of JAX's frames lie between a method and who called it, so no
    fixed ``stacklevel`` is right. Python 3.12 has ``skip_file_prefixes`` for this.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_SKIPPED):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
