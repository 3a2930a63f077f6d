"""Parts of the parameters, by path: cut out, and laid over the whole again."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

__all__ = ["leaf_paths", "matching", "overlay", "restrict"]


def leaf_paths(tree: Any) -> list[str]:
    """Paths of the leaves, joined by ``/``, in the order of ``jax.tree.leaves``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves
    ]


def restrict(params: Any, scope: Sequence[str]) -> dict[str, Any]:
    """The parameters under some paths.

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
        if not any(_leads_to(wanted, path) for path in known):
            raise ValueError(
                f"scope has {wanted!r}, which leads to no parameter; there are "
                f"{', '.join(known)}."
            )

    def within(tree, path):
        if any(_leads_to(wanted, path) for wanted in scope):
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
    """The leaves of ``params`` that ``part`` has too, in the structure of ``part``.

    Args:
        params: a pytree of arrays.
        part: like ``params``, or nested dictionaries with some of its entries.

    Raises:
        ValueError: ``part`` has what ``params`` have not.
    """
    return _matching(params, part, "")


def overlay(params: Any, part: Any) -> Any:
    """The parameters with the leaves of ``part`` in the place of their own.

    Args:
        params: a pytree of arrays.
        part: like ``params``, or nested dictionaries with some of its entries.

    Returns:
        A pytree like ``params``.

    Raises:
        ValueError: ``part`` has what ``params`` have not.
    """
    matching(params, part)
    return _overlay(params, part)


def _leads_to(wanted: str, path: str) -> bool:
    return path == wanted or path.startswith(f"{wanted}/")


def _matching(params, part, path):
    if isinstance(part, Mapping) and isinstance(params, Mapping):
        for name in part:
            if name not in params:
                raise ValueError(
                    f"The part has {f'{path}/{name}'.lstrip('/')!r}, which the "
                    f"parameters have not; they have {', '.join(map(str, params))}."
                )
        return {
            name: _matching(params[name], child, f"{path}/{name}")
            for name, child in part.items()
        }
    if jax.tree.structure(params) != jax.tree.structure(part):
        raise ValueError(
            f"At {path.lstrip('/') or 'the root'!r} the part has the structure "
            f"{jax.tree.structure(part)}, the parameters {jax.tree.structure(params)}."
        )
    return params


def _overlay(params, part):
    if not isinstance(part, Mapping):
        return part
    laid = {name: _overlay(params[name], child) for name, child in part.items()}
    return type(params)({**params, **laid})
