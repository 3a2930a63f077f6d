"""Graphs on disk: the models as arrays, everything else in the manifest.

A graph that is loaded is checked again, and its nodes must have the ids under which
they were saved.
"""

import os
from typing import Any

from hyperforget_jax import checkpointing
from hyperforget_jax.checks import check_is
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.nodes import Edge, Models, Node, Record

__all__ = ["load", "save"]

_KIND = "inheritance"
# What Fisher information was measured with: static, and so no leaf of the tree.
_FISHER = ("estimator", "labels", "batch_size")


def save(
    path: str | os.PathLike[str], graph: Graph, *, overwrite: bool = False
) -> checkpointing.Manifest:
    """Saves a graph as a checkpoint of kind ``"inheritance"``; whole, or not at all.

    Args:
        path: the checkpoint's folder, made together with its parents.
        graph: trained or not.
        overwrite: whether to replace an older checkpoint.

    Returns:
        The manifest as written.

    Raises:
        FileExistsError: there is a checkpoint already, or something else.
        TypeError: no graph, or a Fisher that is neither ``fisher.Fisher`` nor a dict.
    """
    check_is(Graph, "an inheritance.Graph", graph=graph)
    tree, fisher = {}, {}
    for architecture, models in graph.models.items():
        tree[architecture] = {"variables": models.variables, "fisher": models.fisher}
        fisher[architecture] = _fisher_config(architecture, models.fisher)
    config = {
        "nodes": graph.nodes,
        "edges": graph.edges,
        "audit": graph.audit,
        "ids": {name: graph.id(name) for name in graph.names},
        "fisher": fisher,
    }
    return checkpointing.save(
        path, tree, kind=_KIND, config=config, overwrite=overwrite
    )


def load(path: str | os.PathLike[str]) -> Graph:
    """Loads what :func:`save` saved, to the bit, and checks it.

    Args:
        path: the checkpoint's folder.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: one of another kind, a malformed graph, or nodes whose ids are not
            those that were saved.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    tree = checkpointing.load(path, kind=_KIND)
    config = checkpointing.read_manifest(path).config
    with checkpointing.believing(path):
        models = {
            architecture: Models(
                stored["variables"],
                _fisher(stored["fisher"], config["fisher"][architecture]),
            )
            for architecture, stored in tree.items()
        }
        graph = Graph.create(
            [Node(**fields) for fields in config["nodes"]],
            [Edge(**fields) for fields in config["edges"]],
            models,
            [Record(**fields) for fields in config["audit"]],
        )
        ids = dict(config["ids"])
    gone = sorted(set(ids) - set(graph.names))
    if gone:
        raise ValueError(
            f"{os.fspath(path)} is not the graph that was saved: its nodes {gone} are "
            "gone."
        )
    for name in graph.names:
        saved = ids.get(name)
        if graph.id(name) != saved:
            raise ValueError(
                f"{os.fspath(path)} is not the graph that was saved: its node {name!r} "
                f"has the id {graph.id(name)}, and was saved as {saved}."
            )
    return graph


def _fisher_config(architecture: str, fisher: Any) -> dict[str, Any] | None:
    """What is to be known of a Fisher beside its arrays; None of a plain tree."""
    # Anything else would come back as a dict, silently.
    if fisher is None or isinstance(fisher, dict):
        return None
    if not isinstance(fisher, Fisher):
        raise TypeError(
            f"models[{architecture!r}].fisher must be a fisher.Fisher, a dict or None, "
            f"got {type(fisher).__name__}."
        )
    return {name: getattr(fisher, name) for name in _FISHER}


def _fisher(stored: Any, config: dict[str, Any] | None) -> Any:
    if config is None:
        return stored
    return Fisher(**stored, **config)
