"""Models that inherit from each other: graphs, their training, and unlearning."""

from hyperforget_jax.inheritance.audit import Record, record, revisions, verify
from hyperforget_jax.inheritance.builders import (
    data_parallel,
    federated_averaging,
    federated_chain,
    federated_dag,
    incremental,
    transfer,
)
from hyperforget_jax.inheritance.drawing import draw
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.graph_fiun import GraphInfo, GraphState, fiun
from hyperforget_jax.inheritance.included import Included
from hyperforget_jax.inheritance.nodes import KINDS, Edge, Node
from hyperforget_jax.inheritance.plans import NetworkData, Plan
from hyperforget_jax.inheritance.saving import load, save
from hyperforget_jax.inheritance.train_graph import train, train_networks

__all__ = [
    "Edge",
    "Graph",
    "GraphInfo",
    "GraphState",
    "Included",
    "KINDS",
    "NetworkData",
    "Node",
    "Plan",
    "Record",
    "data_parallel",
    "draw",
    "federated_averaging",
    "federated_chain",
    "federated_dag",
    "fiun",
    "incremental",
    "load",
    "record",
    "revisions",
    "save",
    "train",
    "train_networks",
    "transfer",
    "verify",
]
