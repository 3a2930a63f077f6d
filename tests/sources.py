"""Source files as syntax trees."""

import ast
import gc
import pathlib


def parse(path: pathlib.Path) -> ast.Module:
    """Parse a file, undisturbed.

    CPython 3.11 counts the depth of a tree in one place for all threads (gh-106905),
    and a collection of garbage in between lets others run: once in many runs of all
    tests it then raised SystemError.
    """
    text = path.read_text(encoding="utf-8")
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if collects:
            gc.enable()
