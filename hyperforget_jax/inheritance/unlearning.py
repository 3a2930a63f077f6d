"""Unlearning a whole graph: impressions at the roots, one update for all heirs."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperforget_jax import checks, sharding, trees
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
)
from hyperforget_jax.inheritance.answerable import check_requests
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.impressions import (
    Impression,
    impress,
    measure,
    merge_impressions,
    on_scale,
)
from hyperforget_jax.inheritance.nodes import Models, short_hash
from hyperforget_jax.inheritance.plans import Plan
from hyperforget_jax.inheritance.rules import Rule
from hyperforget_jax.inheritance.training import by_architecture
from hyperforget_jax.inheritance.updates import UpdateInfo, update
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models.head import (
    Head,
    find_head,
    move_columns,
)

__all__ = ["forget", "register", "unlearn"]


def register(
    graph: Graph,
    classifier: Classifier | Mapping[str, Classifier],
    data: Examples,
    plan: Plan,
    rule: Rule,
    *,
    columns: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Caches the Fisher of every node's own training data, while they are there.

    A node that was not trained but averaged is taken at the data of its parents.

    Args:
        graph: with models.
        classifier: the model, or one by architecture.
        data: the training examples of the plan, ``[N]``.
        plan: who saw what.
        rule: the rule that requests will be answered by.
        columns: by architecture, the class of each output, as for ``train_networks``.

    Returns:
        The graph with Fishers; as it is if the rule needs none.

    Raises:
        ValueError: a graph without models, or a plan or data that are not its own.
    """
    if not graph.models:
        raise ValueError("graph is not trained: it has no models.")
    for node in graph.nodes:
        planned = plan.graph.node(node.name)
        if planned.data != node.data:
            raise ValueError(
                f"plan is not that of the graph: {node.name} was trained on the rows "
                f"{node.data or 'of nobody'}, and there sees {planned.data or 'none'}."
            )
    if not np.array_equal(plan.labels, data.y):
        raise ValueError("data are not those of the plan: their labels differ.")
    if rule.scope == "none":
        return graph
    classifiers = by_architecture(graph, classifier)
    heads = _heads(graph, classifiers, data.x, columns)
    models = {}
    for architecture in graph.architectures:
        model, head = classifiers[architecture], heads[architecture]
        rows = [plan.rows_behind(name) for name in graph.rows(architecture)]
        size = max(len(each) for each in rows)
        # Everybody's rows, filled up with rows out of range, which weigh nothing.
        padded = np.full((len(rows), size), data.y.shape[0], np.int32)
        for place, each in enumerate(rows):
            padded[place, : len(each)] = each
        found = _measure_all(
            model, head, rule, graph.models[architecture].variables, data, padded
        )
        models[architecture] = graph.models[architecture]._replace(fisher=found)
    return graph.with_models(models)


def unlearn(
    key: Array,
    graph: Graph,
    classifier: Classifier | Mapping[str, Classifier],
    requests: Mapping[str, ForgetRequest],
    rule: Rule,
    *,
    columns: Mapping[str, Sequence[int]] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Graph, dict[str, UpdateInfo]]:
    """Makes a graph forget, in one shot: the roots and all who inherit from them.

    The roots' forget data are read, and no other. FIUn, arXiv 2408.08493; a model that
    descends from several roots forgets what any of them does (MFIM).

    Cached Fishers stay as they are, and those of the models that were changed are then
    out of date: a second request that dampens warns of it.

    Args:
        key: a typed key, consumed.
        graph: with models, and with Fishers if the rule dampens (:func:`register`).
        classifier: the model, or one by architecture.
        requests: by root, what it is to forget, with its data: for example
            ``{root: plan.request_at(request, root) for root in plan.roots(request)}``.
        rule: how, from :func:`rule`.
        columns: by architecture, the class of each output, as for ``train_networks``.
        mesh: with a ``population`` axis, on which the models are sharded.

    Returns:
        A new graph, its audit one record longer; the given one stays what it was. And
        how the models were changed, by architecture, stacked ``[M, ...]``.

    Raises:
        TypeError, ValueError: unknown roots, roots that do not know a requested class,
            requests that do not fit, no cached Fishers or other ones, Fishers that are
            negative or not finite, a rule that can do nothing with the request.
    """
    check_requests(graph, requests, rule)
    nodes = _with_classes(graph, requests, rule).nodes
    if mesh is not None:
        graph = graph.with_models(
            {
                name: sharding.shard(of_one, mesh, "population")
                for name, of_one in graph.models.items()
            }
        )
    # Without what requests change of its static parts, one compilation serves many.
    bare = Graph(
        graph.models,
        tuple(
            dataclasses.replace(node, revisions=(), classes=()) for node in graph.nodes
        ),
        graph.edges,
    )
    changes, infos = _changes_jitted(
        key,
        bare,
        tuple(sorted(by_architecture(graph, classifier).items())),
        dict(requests),
        rule,
        _hashable(columns),
    )
    roots = tuple(requests)
    reached = dict(
        zip(graph.names, np.any(graph.reach(roots), axis=1).tolist(), strict=True)
    )
    return dataclasses.replace(graph, nodes=nodes).revised(
        _laid_over(graph, changes),
        roots=roots,
        descendants=[name for name in graph.names if reached[name]],
        request=_described(requests),
        method=_method(rule),
    ), infos


def forget(
    key: Array,
    graph: Graph,
    classifier: Classifier | Mapping[str, Classifier],
    requests: Mapping[str, ForgetRequest],
    rule: Rule,
    *,
    columns: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, Models], dict[str, UpdateInfo]]:
    """The numbers of :func:`unlearn`: a pure function, to be jitted and vmapped.

    It checks nothing that depends on values, and leaves the graph's nodes alone.

    Args:
        key: a typed key, consumed.
        graph: as for :func:`unlearn`, like all that follow.
        classifier: the model, or one by architecture.
        requests: by root.
        rule: how.
        columns: by architecture, the class of each output.

    Returns:
        Models by architecture, their Fishers as they were, and infos.
    """
    changes, infos = _changes(key, graph, classifier, requests, rule, columns)
    return _laid_over(graph, changes), infos


def _changes(key, graph, classifier, requests, rule, columns):
    """The leaves that change, None in the place of others, and infos.

    What a jitted function gives back unchanged is copied: Fishers, and layers that a
    rule leaves alone, are many times larger than what a request changes.
    """
    key = as_threefry(key)
    classifiers = by_architecture(graph, classifier)
    data = next(iter(requests.values())).data
    if data is None:
        raise ValueError("requests carry no data: make them with hf.forget_classes.")
    heads = _heads(graph, classifiers, data.x, columns)
    roots = tuple(requests)
    taken = {}
    for root, request in requests.items():
        architecture = graph.node(root).architecture
        classifiers_root, head = classifiers[architecture], heads[architecture]
        variables = graph.variables(root)
        checks.check_request(classifiers_root, variables, request)
        found = impress(classifiers_root, variables, request, rule, head)
        taken[root] = on_scale(found, graph.fisher(root), rule)

    changes, infos = {}, {}
    for place, architecture in enumerate(graph.architectures):
        head, model = heads[architecture], classifiers[architecture]
        stacked = jax.tree.map(
            lambda *leaves: jnp.stack(leaves),
            *[
                _translated(taken[root], heads[graph.node(root).architecture], head)
                for root in roots
            ],
        )
        reach = jnp.asarray(graph.reach(roots, architecture))
        reaching = merge_impressions(stacked, reach, rule)
        old = graph.models[architecture]
        keys = jax.random.split(jax.random.fold_in(key, place), reach.shape[0])

        def change(key, variables, own, reaching, reached, head=head, model=model):
            # Shapes alone: what the examples hold is not for a fresh model.
            blank = jnp.zeros((1, *data.x.shape[1:]), data.x.dtype)
            fresh = model.init(key, blank)["params"]
            if rule.renew:
                variables = {OUTPUT_MASK: _nothing(reaching), **variables}
            new, info = update(variables, own, reaching, fresh, rule, head)
            kept = jax.tree.map(
                lambda n, o: None if n is o else jnp.where(reached, n, o),
                new,
                variables,
            )
            return kept, jax.tree.map(lambda leaf: jnp.where(reached, leaf, 0), info)

        axes = (0, 0, None if old.fisher is None else 0, 0, 0)
        changes[architecture], infos[architecture] = jax.vmap(change, axes)(
            keys, old.variables, old.fisher, reaching, jnp.any(reach, axis=1)
        )
    return changes, infos


def _laid_over(graph: Graph, changes: Mapping[str, Any]) -> dict[str, Models]:
    """The graph's models with the leaves that changed."""

    def lay(new, old):
        if isinstance(new, Mapping):
            return {k: lay(v, old.get(k) if old else None) for k, v in new.items()}
        return old if new is None else new

    return {
        name: models._replace(variables=lay(changes[name], models.variables))
        for name, models in graph.models.items()
    }


@functools.partial(jax.jit, static_argnums=(2, 5))
def _changes_jitted(key, graph, classifiers, requests, rule, columns):
    columns = None if columns is None else dict(columns)
    return _changes(key, graph, dict(classifiers), requests, rule, columns)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure_all(model, head, rule, variables, data, rows):
    def one(member):
        variables, rows = member
        return measure(model, variables, data.take(rows), rule, head)

    # One after the other: together they would hold every model's activations at once.
    return lax.map(one, (variables, rows))


def _nothing(impression: Impression) -> Array:
    return jnp.zeros(impression.classes.shape, bool)


def _hashable(columns):
    if columns is None:
        return None
    return tuple((name, tuple(each)) for name, each in sorted(columns.items()))


def _heads(graph, classifiers, x, columns) -> dict[str, Head]:
    return {
        name: find_head(
            classifiers[name],
            jax.eval_shape(
                lambda tree: trees.take(tree, 0), graph.models[name].variables
            ),
            x,
            None if columns is None else columns[name],
        )
        for name in graph.architectures
    }


def _translated(impression: Impression, source: Head, target: Head) -> Impression:
    """The impression for models of another head, its Fisher's columns by class."""
    if impression.fisher is None or source == target:
        return impression
    values = impression.fisher.values
    moved = move_columns(trees.get(values, source.path), source.columns, target.columns)
    if source.path != target.path:
        raise ValueError(
            f"The Fishers of {source.path} cannot be handed to models whose last layer "
            f"is {target.path}: their trees are mismatched."
        )
    values = trees.replace(values, target.path, moved)
    return impression._replace(
        fisher=dataclasses.replace(impression.fisher, values=values)
    )


def _described(requests: Mapping[str, ForgetRequest]) -> str:
    parts = []
    for root, request in requests.items():
        classes = np.flatnonzero(request.classes).tolist()
        if classes:
            what = "classes " + ", ".join(map(str, classes))
        else:
            ids = np.asarray(request.forget.id)
            what = f"rows {short_hash(sorted(ids[ids >= 0].tolist()))}"
        parts.append(f"{root}: {what}")
    return "; ".join(parts)


def _method(rule: Rule) -> str:
    fields = dataclasses.asdict(rule)
    told = {
        name: value if isinstance(value, bool | int | str) else float(value)
        for name, value in fields.items()
    }
    return "fiun(" + ", ".join(f"{name}={value}" for name, value in told.items()) + ")"


def _with_classes(
    graph: Graph, requests: Mapping[str, ForgetRequest], rule: Rule
) -> Graph:
    """The nodes' known classes after a rule that makes the requested ones unknown."""
    if not rule.renew:
        return graph
    reach = graph.reach(tuple(requests))
    asked = [set(np.flatnonzero(each.classes).tolist()) for each in requests.values()]
    nodes = []
    for node, reached in zip(graph.nodes, reach, strict=True):
        gone = set().union(*(a for a, r in zip(asked, reached, strict=True) if r))
        left = tuple(label for label in node.classes if label not in gone)
        if not left:
            raise ValueError(
                f"{node.name} knows the requested classes alone: nothing would be left."
            )
        nodes.append(dataclasses.replace(node, classes=left))
    return dataclasses.replace(graph, nodes=tuple(nodes))
