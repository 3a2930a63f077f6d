"""Whether stacked models are those of a graph's nodes, by shapes and dtypes alone."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from hyperforget_jax import trees
from hyperforget_jax.inheritance.nodes import Edge, Models, Node
from hyperforget_jax.inheritance.validation import unknown

__all__ = ["check_frozen", "check_models"]


def check_models(
    nodes: Sequence[Node], edges: Sequence[Edge], models: Mapping[str, Models]
) -> None:
    """Raises unless the models are those of the nodes, by their shapes and dtypes.

    Args:
        nodes: a checked graph's.
        edges: its edges.
        models: by architecture; empty if the graph is not trained yet.

    Raises:
        TypeError: something that is no models.
        ValueError: an architecture that is missing or unknown; a leaf that is not
            stacked over its nodes; an average over architectures; a frozen path that
            the child does not have.
    """
    by_name = {node.name: node for node in nodes}
    for edge in edges:
        parent, child = by_name[edge.parent], by_name[edge.child]
        if edge.kind == "average" and parent.architecture != child.architecture:
            raise ValueError(
                f"{parent.name} -> {child.name} averages over the architectures "
                f"{parent.architecture!r} and {child.architecture!r}: mismatched trees "
                "cannot be averaged"
                + _difference(models, parent.architecture, child.architecture)
            )
    if not models:
        return
    counts = collections.Counter(node.architecture for node in nodes)
    for name in models:
        if name not in counts:
            raise ValueError(f"models: {unknown('architecture', name, list(counts))}")
    missing = sorted(set(counts) - set(models))
    if missing:
        raise ValueError(f"models has nothing for the architectures {missing}.")
    for architecture, count in counts.items():
        _check_stacked(architecture, count, models[architecture])
    for edge in edges:
        if edge.frozen:
            architecture = by_name[edge.child].architecture
            check_frozen(edge, models[architecture].variables)


def _check_stacked(architecture: str, count: int, models: Models) -> None:
    if not isinstance(models, Models):
        raise TypeError(
            f"models[{architecture!r}] must be Models(variables, fisher), got "
            f"{type(models).__name__}."
        )
    for path, leaf in trees.by_path(models).items():
        if jnp.shape(leaf)[:1] != (count,):
            raise ValueError(
                f"models[{architecture!r}] must be stacked over {count} nodes, "
                f"[{count}, ...]; the leaf {path!r} has shape "
                f"{jnp.shape(leaf)}."
            )


def check_frozen(edge: Edge, variables: Any) -> None:
    """Raises ValueError unless the child has the parameters that an edge freezes.

    Args:
        edge: an edge.
        variables: the child's, of which the paths matter.
    """
    paths = list(_leaves(variables.get("params", {})))
    for frozen in edge.frozen:
        if not any(trees.leads_to(frozen, path) for path in paths):
            raise ValueError(
                f"{edge.parent} -> {edge.child} freezes {frozen!r}, which {edge.child} "
                f"does not have; its parameters are {', '.join(paths)}."
            )


def _difference(models: Mapping[str, Models], first: str, second: str) -> str:
    """Where two architectures' trees differ, as the end of a sentence."""
    if first not in models or second not in models:
        return "."
    left, right = (_leaves(models[each].variables) for each in (first, second))
    for path in sorted({*left, *right}):
        if left.get(path) != right.get(path):
            first_has, second_has = (
                tree.get(path, "not there") for tree in (left, right)
            )
            return f": {path!r} is {first_has} in one, {second_has} in the other."
    return "."


def _leaves(tree: Any) -> dict[str, str]:
    """Shape (without the stacking axis) and dtype of every leaf, by path."""
    return {
        path: f"{jnp.result_type(leaf)}{list(jnp.shape(leaf)[1:])}"
        for path, leaf in trees.by_path(tree).items()
    }
