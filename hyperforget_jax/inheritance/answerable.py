"""Whether requests to a graph can be answered, before anything is computed."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import ForgetRequest
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.rules import Rule
from hyperforget_jax.inheritance.validation import check_roots

__all__ = ["check_effect", "check_requests"]


def check_requests(
    graph: Graph, requests: Mapping[str, ForgetRequest], rule: Rule
) -> None:
    """Raises, or warns, where a graph cannot answer requests as they are.

    Args:
        graph: trained and registered.
        requests: by root.
        rule: how they are to be answered.

    Raises:
        TypeError: ``requests`` is no mapping.
        ValueError: no root, no models, no data, rows that are not there, or Fishers
            that are missing, malformed or of fewer examples than are to go.
    """
    if not isinstance(requests, Mapping):
        raise TypeError(
            "requests must be a dictionary by root, such as {'u0': request}; got "
            f"{type(requests).__name__}."
        )
    check_roots(graph, tuple(requests))
    if not graph.models:
        raise ValueError("graph is not trained: it has no models.")
    for root, request in requests.items():
        check_roots(graph, (root,), np.flatnonzero(request.classes).tolist())
        if request.data is None:
            raise ValueError(f"The request to {root!r} carries no data.")
        if not np.asarray(request.forget.weight).any():
            raise ValueError(
                f"The request to {root!r} names no example that is there: the Fisher "
                "of nothing says nothing."
            )
        check_effect(rule, request)
    if rule.scope == "none":
        return
    stale = [node.name for node in graph.nodes if node.revisions]
    if stale:
        warnings.warn(
            f"The Fishers of {', '.join(stale[:5])} were taken before an earlier "
            "request, at other weights and with what it forgot: register anew if the "
            "data are there.",
            RuntimeWarning,
            stacklevel=3,
        )
    for name, models in graph.models.items():
        if models.fisher is None:
            raise ValueError(
                f"The models of {name!r} have no cached Fishers: register the graph "
                "while the training data are there."
            )
        fisher.check_values(models.fisher, f"models[{name!r}].fisher")
    if all(m.fisher.estimator == "per_example" for m in graph.models.values()):
        for root, request in requests.items():
            held = float(graph.fisher(root).mass)
            data: Any = request.data
            given = float(np.asarray(data.weight).sum())
            # Counts up to 2**24 are exact in float32.
            if given > held:
                raise ValueError(
                    f"The request to {root!r} brings {given:g} examples, and its "
                    f"Fisher is of {held:g}: give it its own, as plan.request_at does."
                )


def check_effect(rule: Rule, request: ForgetRequest) -> None:
    """Raises, or warns, where a rule can do nothing with a request.

    Args:
        rule: the rule; tracers pass.
        request: what is to be forgotten.

    Raises:
        ValueError: a request for rows under a rule that changes classes alone.
    """
    if not checks.is_concrete(rule, request):
        return
    # By NumPy: under a trace JAX would make tracers of what is concrete.
    names_classes = np.asarray(request.classes).any()
    if rule.scope == "none" and not names_classes:
        raise ValueError(
            "The rule changes the columns of requested classes and dampens nothing, "
            "but the request is for single rows: use the preset 'repaired'."
        )
    if rule.scope == "none" or request.data is None:
        return
    if request.rows is None:
        return  # How much of the data that is cannot be seen.
    weight, rows = np.asarray(request.data.weight), np.asarray(request.rows)
    rows = rows[(rows >= 0) & (rows < weight.size)]
    share = weight[rows].sum() / max(weight.sum(), 1)
    # Which threshold decides; and above what it cannot be passed, at the weights where
    # both Fishers were taken.
    name = "deep_alpha" if rule.only_columns and not names_classes else "alpha"
    alpha = np.asarray(getattr(rule, name))
    most = 1.0 if rule.shares else 1 / share if share > 0 else np.inf
    if rule.estimator == "per_example" and (alpha >= most).all():
        warnings.warn(
            f"{name}={getattr(rule, name)} selects nothing at the root: its forget "
            f"data are {share:.3g} of its data, and what is compared is at most "
            f"{most:.3g} there.",
            RuntimeWarning,
            stacklevel=4,
        )
