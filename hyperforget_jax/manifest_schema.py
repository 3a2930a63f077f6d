"""What a manifest must hold before anything of it is believed.

A seal says that a manifest was not altered since it was written, and nothing of who
wrote it: a folder from elsewhere may have been made by hand.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["check_fields", "check_size"]

_TEXTS = ("kind", "model", "dataset", "split", "config_hash", "digest", "arrays")
_FIELDS = {*_TEXTS, "schema", "versions", "config", "structure", "leaves"}
_LEAF = {"path", "shape", "dtype", "key_impl"}
# A name beside the manifest: no other folder, above it or elsewhere.
_ARRAYS = re.compile(r"arrays-[0-9]{1,18}")


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raises ValueError unless these are a manifest's fields, as JSON has them.

    Args:
        fields: without the seal.
    """
    _has_exactly("it", fields, _FIELDS)
    _is(int, "schema", fields["schema"])
    for name in _TEXTS:
        _is(str, name, fields[name])
    if not _ARRAYS.fullmatch(fields["arrays"]):
        raise ValueError(f"its arrays are at {fields['arrays']!r}, not at 'arrays-0'")
    _is(dict, "versions", fields["versions"])
    for package, version in fields["versions"].items():
        _is(str, f"versions[{package!r}]", version)
    _is(list, "leaves", fields["leaves"])
    for row, leaf in enumerate(fields["leaves"]):
        _check_leaf(f"leaves[{row}]", leaf)
    paths = [leaf["path"] for leaf in fields["leaves"]]
    if paths != list(_paths(fields["structure"])):
        raise ValueError("its structure has other leaves than it lists")
    if len(set(paths)) < len(paths):
        raise ValueError("it lists two leaves of one path")


def check_size(leaves: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> None:
    """Raises ValueError for leaves that are larger than this machine's memory.

    An array of zeros takes no room on disk, so that its file tells nothing.

    Args:
        leaves: shapes and dtypes, by path.
    """
    wanted = 0
    for shape, dtype in leaves.values():
        size = dtype.itemsize
        for length in shape:
            size *= length  # Python's integers do not wrap.
        wanted += size
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > held:
        raise ValueError(
            f"its arrays take {wanted:.3g} bytes, more than this machine's memory of "
            f"{held:.3g}"
        )


def _check_leaf(name: str, leaf: Any) -> None:
    _is(dict, name, leaf)
    _has_exactly(name, leaf, _LEAF)
    _is(str, f"{name}.path", leaf["path"])
    _is(list, f"{name}.shape", leaf["shape"])
    for length in leaf["shape"]:
        _is(int, f"{name}.shape", length)
        if not 0 <= length < 2**63:
            raise ValueError(f"{name}.shape is {leaf['shape']}")
    _is(str, f"{name}.dtype", leaf["dtype"])
    if leaf["key_impl"] is not None:
        _is(str, f"{name}.key_impl", leaf["key_impl"])
    elif not _is_number(leaf["dtype"]):
        raise ValueError(f"{name}.dtype is {leaf['dtype']!r}, no dtype of an array")


def _is_number(name: str) -> bool:
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return False
    # bfloat16 and its like are void to NumPy, but have names of their own.
    return str(dtype) == name and dtype.kind in "biufcV" and dtype.fields is None


def _paths(structure: Any, *above: Any) -> Iterator[str]:
    """The paths of a structure's leaves, in order."""
    if structure is None:
        return
    if structure == "leaf":
        yield "/".join(map(str, above))
        return
    _is(dict, "structure", structure)
    if len(structure) != 1:
        raise ValueError(f"its structure has a node of {sorted(structure)}")
    ((node, children),) = structure.items()
    _is(list, f"structure's {node!r}", children)
    if node in ("list", "tuple"):
        children = [[row, child] for row, child in enumerate(children)]
    elif node != "dict":
        raise ValueError(f"its structure has a node of {node!r}")
    for child in children:
        _is(list, "structure's entry", child)
        if len(child) != 2 or not isinstance(child[0], str | int):
            raise ValueError(f"its structure has the entry {child!r:.50}")
        yield from _paths(child[1], *above, child[0])


def _has_exactly(name: str, fields: Mapping[str, Any], wanted: set[str]) -> None:
    if set(fields) != wanted:
        raise ValueError(
            f"{name} lacks {sorted(wanted - set(fields))} and has "
            f"{sorted(set(fields) - wanted)} besides"
        )


def _is(kind: type, name: str, value: Any) -> None:
    # True is an integer to Python, and not to JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} is {value!r:.50}, no {kind.__name__}")
