"""Whether a graph can answer requests, as far as values can be seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import ForgetRequest
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.inheritance.graph import Graph

__all__ = ["check_forget", "check_roots"]


def check_roots(graph: Graph, forgotten: Forgotten, requests, config) -> None:
    """Raise where the roots cannot be asked."""
    if not isinstance(requests, Mapping):
        raise TypeError(
            "requests must be a dictionary by root, such as {'u0': request}; got "
            f"{type(requests).__name__}."
        )
    graph.check_names("roots", tuple(requests))
    if not requests:
        raise ValueError("roots is empty: a request is made to at least one node.")
    for root, request in requests.items():
        checks.check_is_request(request)
        if request.data is None:
            raise ValueError(f"The request to {root!r} carries no data.")
        fisher.check_effect(config, request)
    wanted = {root: request.classes for root, request in requests.items()}
    if not checks.is_concrete(forgotten.classes, wanted):
        return
    wanted = {root: np.flatnonzero(each).tolist() for root, each in wanted.items()}
    reach, gone = graph.reach(tuple(requests)), np.asarray(forgotten.classes)
    for place, node in enumerate(graph.nodes):
        lost = np.flatnonzero(gone[place]).tolist()
        known = [label for label in node.classes if label not in lost]
        for label in wanted.get(node.name, ()):
            if label not in known:
                raise ValueError(
                    f"The root {node.name!r} does not know class {label}; its classes "
                    f"are {known}."
                )
        asked = {
            label
            for labels, reaches in zip(wanted.values(), reach[place], strict=True)
            for label in labels
            if reaches
        }
        if config.reinitialise and asked and not set(known) - asked:
            raise ValueError(
                f"{node.name} knows the requested classes alone: nothing would be left."
            )


def check_forget(root: str, request: ForgetRequest, own: Fisher | None) -> None:
    """Raise where a root's forget data, less what it forgot before, are not its own."""
    data: Any = request.data
    if not checks.is_concrete(request):
        return
    if not np.asarray(request.forget.weight).any():
        raise ValueError(
            f"The request to {root!r} names no example that is there (forgotten "
            "before?): the Fisher of nothing says nothing."
        )
    if own is None or own.estimator != "per_example" or not checks.is_concrete(own):
        return
    held, given = float(own.total_weight), float(np.asarray(data.weight).sum())
    # Counts up to 2**24 are exact in float32.
    if given > held:
        raise ValueError(
            f"The request to {root!r} brings {given:g} examples, and its Fisher is of "
            f"{held:g}: give it its own, as plan.request_at does."
        )
