"""Models that inherit from each other: networks, their training, and unlearning."""

from hyperforget_jax.inheritance.answerable import check_effect
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.impressions import (
    Impression,
    impress,
    measure,
    merge_impressions,
    on_scale,
)
from hyperforget_jax.inheritance.networks import (
    data_parallel,
    federated_averaging,
    federated_chain,
    federated_dag,
    incremental,
    transfer,
)
from hyperforget_jax.inheritance.nodes import KINDS, Edge, Models, Node, Record
from hyperforget_jax.inheritance.picture import draw
from hyperforget_jax.inheritance.plans import Plan
from hyperforget_jax.inheritance.rules import PRESETS, Rule, rule
from hyperforget_jax.inheritance.storage import load, save
from hyperforget_jax.inheritance.training import train, train_networks
from hyperforget_jax.inheritance.unlearning import (
    forget,
    register,
    unlearn,
)
from hyperforget_jax.inheritance.updates import UpdateInfo, update
from hyperforget_jax.inheritance.validation import check_roots
from hyperforget_jax.models.head import Head, find_head, widen

__all__ = [
    "Edge",
    "Graph",
    "Head",
    "Impression",
    "KINDS",
    "Models",
    "Node",
    "PRESETS",
    "Plan",
    "Record",
    "Rule",
    "UpdateInfo",
    "check_effect",
    "check_roots",
    "data_parallel",
    "draw",
    "federated_averaging",
    "federated_chain",
    "federated_dag",
    "find_head",
    "forget",
    "impress",
    "incremental",
    "load",
    "measure",
    "merge_impressions",
    "on_scale",
    "register",
    "rule",
    "save",
    "train",
    "train_networks",
    "transfer",
    "unlearn",
    "update",
    "widen",
]
