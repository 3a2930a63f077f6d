"""Graphs on disk: the state as arrays; graph, audit and ids in the manifest.

What is loaded is checked again; nodes must have the ids under which they were saved.
"""

import dataclasses
import os
from collections.abc import Sequence

from hyperforget_jax import checkpointing
from hyperforget_jax.checks import check_is
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.inheritance.audit import Record, revisions, verify
from hyperforget_jax.inheritance.graph import Graph, check_models
from hyperforget_jax.inheritance.graph_fiun import GraphState
from hyperforget_jax.inheritance.included import Included
from hyperforget_jax.inheritance.nodes import Edge, Node

__all__ = ["load", "save"]

_KIND = "inheritance"
# How Fishers were measured: static, and so no leaves of the tree.
_STATIC = [f.name for f in dataclasses.fields(Fisher) if f.metadata.get("static")]


def save(
    path: str | os.PathLike[str],
    graph: Graph,
    state: GraphState,
    audit: Sequence[Record] = (),
    *,
    overwrite: bool = False,
) -> checkpointing.Manifest:
    """Save a graph as a checkpoint of kind ``"inheritance"``; whole, or not at all.

    Args:
        path: the checkpoint's folder, made together with its parents.
        graph: who inherits from whom.
        state: of :func:`fiun`: models, Fishers, and what was forgotten.
        audit: the requests that were answered.
        overwrite: whether to replace an older checkpoint.

    Returns:
        The manifest as written.

    Raises:
        FileExistsError: there is a checkpoint already, or something else.
        TypeError: no graph, or no state of one.
        ValueError: models or an audit that are not the graph's.
    """
    check_is(Graph, "an inheritance.Graph", graph=graph)
    check_is(GraphState, "a state of inheritance.fiun", state=state)
    check_models(graph, state.variables, "state.variables")
    verify(audit, graph)
    config = {
        "nodes": graph.nodes,
        "edges": graph.edges,
        "audit": tuple(audit),
        "ids": graph.ids(revisions(audit)),
        "fisher": {
            architecture: {name: getattr(fisher, name) for name in _STATIC}
            for architecture, fisher in (state.fisher or {}).items()
        },
    }
    return checkpointing.save(
        path, state, kind=_KIND, config=config, overwrite=overwrite
    )


def load(
    path: str | os.PathLike[str],
) -> tuple[Graph, GraphState, tuple[Record, ...]]:
    """Load what :func:`save` saved, to the bit, and check it.

    Returns:
        The graph, the state and the audit.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: one of another kind, a malformed graph, or nodes whose ids are not
            those that were saved.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    tree = checkpointing.load(path, kind=_KIND)
    config = checkpointing.read_manifest(path).config
    with checkpointing.believing(path):
        graph = Graph(
            tuple(Node(**fields) for fields in config["nodes"]),
            tuple(Edge(**fields) for fields in config["edges"]),
        )
        audit = tuple(Record(**fields) for fields in config["audit"])
        verify(audit, graph)
        saved = dict(config["ids"])
        fishers, included = tree["fisher"], tree["included"]
        state = GraphState(
            tree["variables"],
            None
            if fishers is None
            else {
                name: Fisher(**stored, **config["fisher"][name])
                for name, stored in fishers.items()
            },
            None if included is None else Included(**included),
            Forgotten(**tree["forgotten"]),
        )
    wrong = f"{os.fspath(path)} is not the graph that was saved: its "
    gone = sorted(set(saved) - set(graph.names))
    if gone:
        raise ValueError(f"{wrong}nodes {gone} are gone.")
    for name, found in graph.ids(revisions(audit)).items():
        if found != saved.get(name):
            raise ValueError(
                f"{wrong}node {name!r} has the id {found}, and was saved as "
                f"{saved.get(name)}."
            )
    return graph, state, audit
