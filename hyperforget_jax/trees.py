"""Trees of parameters: paths, parts, stacking.

A path joins the names that lead to a leaf or to a layer: ``"Block_0/Conv_0/kernel"``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "by_path",
    "get",
    "join",
    "leads_to",
    "leaf_paths",
    "matching",
    "overlay",
    "replace",
    "restrict",
    "stack",
    "take",
]


def join(keys: Sequence[Any]) -> str:
    """Join the keys of ``jax.tree_util`` to a path."""
    return jax.tree_util.keystr(tuple(keys), simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves by their paths, in the order of ``jax.tree.leaves``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {join(keys): leaf for keys, leaf in leaves}


def leaf_paths(tree: Any) -> list[str]:
    """Return the paths of the leaves, in the order of ``jax.tree.leaves``."""
    return list(by_path(tree))


def leads_to(start: str, path: str) -> bool:
    """Return whether a path is another one or goes on from it."""
    return path == start or path.startswith(f"{start}/")


def get(tree: Any, path: str) -> Any:
    """Return what stands at a path, such as a layer's ``{"kernel": ..., "bias": ...}``.

    Args:
        tree: nested mappings.
        path: as ``"Block_0/Conv_0"``; empty for the tree itself.

    Raises:
        ValueError: a path that leads nowhere.
    """
    node = tree
    for name in path.split("/") if path else ():
        if not isinstance(node, Mapping) or name not in node:
            raise ValueError(
                f"{path!r} leads to no parameter; there are "
                f"{', '.join(leaf_paths(tree))}."
            )
        node = node[name]
    return node


def replace(tree: Any, path: str, new: Any) -> Any:
    """Return the tree with something else, of whatever shape, at a path.

    Args:
        tree: nested mappings.
        path: of an entry that is there.
        new: what is to stand there.
    """
    if not path:
        return new
    name, _, rest = path.partition("/")
    return {**tree, name: replace(tree[name], rest, new)}


def stack(trees: Sequence[Any]) -> Any:
    """Stack trees of one structure: leaves ``[...]`` become ``[len(trees), ...]``."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def take(stacked: Any, index: Any) -> Any:
    """Return one tree of stacked ones, or some: ``index`` on each leaf's first axis."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def restrict(params: Any, scope: Sequence[str]) -> dict[str, Any]:
    """Return the parameters under some paths.

    Args:
        params: nested dictionaries of arrays.
        scope: paths such as ``("Dense_1",)`` or ``("Block_0/Conv_0", "Dense_0/bias")``:
            a leaf is in scope if its path is one of them or goes on from one of them.

    Returns:
        Nested dictionaries of the leaves in scope alone.

    Raises:
        TypeError: ``scope`` is one string.
        ValueError: the scope is empty, or a path that leads to no parameter.
    """
    if isinstance(scope, str):
        raise TypeError(f"scope must be a tuple of paths, got the string {scope!r}.")
    scope, known = tuple(scope), leaf_paths(params)
    if not scope:
        raise ValueError("scope names no parameters: give None to mean all of them.")
    for wanted in scope:
        if not any(leads_to(wanted, path) for path in known):
            raise ValueError(
                f"scope has {wanted!r}, which leads to no parameter; there are "
                f"{', '.join(known)}."
            )

    def within(tree, path):
        if any(leads_to(wanted, path) for wanted in scope):
            return tree
        if not isinstance(tree, Mapping):
            return {}
        inner = {
            name: within(child, f"{path}/{name}" if path else str(name))
            for name, child in tree.items()
        }
        return {name: child for name, child in inner.items() if jax.tree.leaves(child)}

    return within(params, "")


def matching(params: Any, part: Any) -> Any:
    """Return the leaves of ``params`` that ``part`` has too, in its structure.

    Args:
        params: a pytree of arrays.
        part: like ``params``, or nested dictionaries with some of its entries.

    Raises:
        ValueError: ``part`` has what ``params`` have not.
    """
    known = by_path(params)
    for path in by_path(part):
        if path not in known:
            raise ValueError(
                f"The part has {path!r}, which the parameters have not; they have "
                f"{', '.join(known)}."
            )
    return jax.tree.map_with_path(lambda keys, _: known[join(keys)], part)


def overlay(params: Any, part: Any) -> Any:
    """Return the parameters with the leaves of ``part`` in place of their own.

    Arguments and errors are those of :func:`matching`.
    """
    matching(params, part)
    new = by_path(part)
    return jax.tree.map_with_path(lambda keys, leaf: new.get(join(keys), leaf), params)
