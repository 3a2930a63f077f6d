"""FIUn on a whole graph: statistics at the roots, one update for all descendants."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hyperforget_jax import checks, fisher, trees
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import Fisher, FIUnConfig, ForgetStatistics, UpdateInfo
from hyperforget_jax.forgotten import Forgotten, check_known, recall, remember
from hyperforget_jax.inheritance.graph import Graph, check_models
from hyperforget_jax.inheritance.plans import NetworkData
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models.head import Head, find_head, move_columns

__all__ = ["GraphInfo", "GraphState", "Included", "by_architecture", "fiun"]


class Included(NamedTuple):
    """What the Fishers of the nodes are of.

    Attributes:
        rows: which examples, in the order of ``forgotten.id``, bool, ``[M, N]``.
        weight: how much of each class, float32, ``[M, C]``.
    """

    rows: Array
    weight: Array


class GraphState(NamedTuple):
    """What a graph carries between requests; M nodes in the graph's order.

    Attributes:
        variables: stacked models by architecture.
        fisher: of each node's training data that are left, stacked by architecture;
            None if nothing is dampened.
        included: what those are of; None likewise.
        forgotten: by node, ``id`` ``[N]``, ``gone`` ``[M, N]``, ``classes`` ``[M, C]``.
    """

    variables: dict[str, Variables]
    fisher: dict[str, Fisher] | None
    included: Included | None
    forgotten: Forgotten


class GraphInfo(NamedTuple):
    """How a request to a graph went.

    Attributes:
        update: how each model was changed, stacked by architecture.
        refused: by root, how many rows were asked for that ``init`` was not given.
    """

    update: dict[str, UpdateInfo]
    refused: dict[str, Array]


def fiun(
    graph: Graph,
    classifier: Classifier | Mapping[str, Classifier],
    config: FIUnConfig = fisher.REPAIRED,
    *,
    columns: Mapping[str, Sequence[int]] | None = None,
) -> Unlearner:
    """Make a whole graph of models forget: the roots, and all who inherit from them.

    ``init(key, variables, data)`` takes stacked models by architecture, as ``train``
    gives them, and ``plan.data(examples)``. ``unlearn(key, state, requests)`` takes a
    dictionary of requests by root, such as ``plan.requests(request)``, and reads the
    roots' forget data alone. A model that descends from several roots forgets what any
    of them does. ``record`` writes the audit.

    After a request each Fisher is less the forgotten share: of a class everything that
    the node held, of single rows those that it held itself. The roots' Fisher of the
    forget data stands for it, on the node's scale where the config matches scales.

    Args:
        graph: who inherits from whom.
        classifier: the model, or one by architecture.
        config: how models are changed. The default, as of ``hf.fiun``, is the preset
            that answers requests for classes and for rows; on whole networks it stays
            within 1.3 points of retraining's accuracy at worst.
        columns: by architecture, the class of each output of its head, where they are
            not ``0, ..., C-1``.

    Raises:
        ValueError: an architecture without classifier.

    References:
        Liu et al., Fishers harvest parallel unlearning in inherited model networks,
        arXiv 2408.08493, 2024.
    """
    checks.check_is(Graph, "an inheritance.Graph", graph=graph)
    checks.check_is(FIUnConfig, "a hf.fisher.FIUnConfig", config=config)
    classifiers = by_architecture(graph, classifier)
    kind = {node.name: node.architecture for node in graph.nodes}

    def heads_of(variables: Mapping[str, Variables], x: Array) -> dict[str, Head]:
        return {
            name: find_head(
                classifiers[name],
                jax.eval_shape(lambda tree: trees.take(tree, 0), variables[name]),
                x,
                None if columns is None else columns[name],
            )
            for name in graph.architectures
        }

    def init(key: Array, variables: dict[str, Variables], data: NetworkData):
        checks.check_key(key)  # Nothing here is random.
        checks.check_is(NetworkData, "what plan.data gives", data=data)
        check_models(graph, variables)
        examples, rows = data
        num_classes = 0
        for name, model in classifiers.items():
            first = trees.take(variables[name], 0)
            num_classes = checks.check_init(model, first, examples)
        if config.reinitialise:
            variables = {
                name: {OUTPUT_MASK: _nobody(graph.rows(name), num_classes), **stacked}
                for name, stacked in variables.items()
            }
        own, included = None, None
        if config.dampens:
            heads = heads_of(variables, examples.x)
            own = {
                name: _fishers(
                    classifiers[name],
                    variables[name],
                    examples,
                    rows[_places(graph, name)],
                    config,
                    heads[name],
                )
                for name in graph.architectures
            }
            included = _included(data, num_classes)
        forgotten = Forgotten(
            jnp.sort(examples.id),
            _nobody(graph.names, examples.id.shape[0]),
            _nobody(graph.names, num_classes),
        )
        return GraphState(variables, own, included, forgotten)

    def unlearn(key: Array, state: GraphState, requests: Mapping[str, ForgetRequest]):
        key = as_threefry(key)
        checks.check_is(GraphState, "what init gave", state=state)
        _check_roots(graph, state.forgotten, requests, config)
        variables, own = state.variables, state.fisher
        roots = tuple(requests)
        heads = None
        statistics, relative, refused, asked = {}, {}, {}, {}
        for root, request in requests.items():
            of_root = graph.take(variables, root)
            model = classifiers[kind[root]]
            checks.check_request(model, of_root, request)
            known = _memory(state.forgotten, graph.names.index(root))
            check_known(known, request)
            request, refused[root] = recall(known, request)
            whole = None if own is None else graph.take(own, root)
            _check_forget(root, request, whole)
            if heads is None:
                heads = heads_of(variables, request.forget.x)
            head = heads[kind[root]]
            found = fisher.forget_statistics(model, of_root, request, config, head)
            statistics[root] = fisher.on_scale(found, whole, config)
            if whole is not None:
                relative[root] = fisher.by_trace(found.fisher, whole, config)
            asked[root] = request
        assert heads is not None
        x = next(iter(asked.values())).forget.x
        # Shapes alone: what examples hold is not for a fresh model.
        blank = jnp.zeros((1, *x.shape[1:]), x.dtype)

        gone, included = None, state.included
        if included is not None:
            gone, included = _gone(graph, included, state.forgotten.id, asked)
        changed, infos = {}, {}
        left = None if own is None else {}
        for place, name in enumerate(graph.architectures):
            head, model = heads[name], classifiers[name]
            translated = trees.stack(
                [_translated(statistics[r], heads[kind[r]], head) for r in roots]
            )
            reach = jnp.asarray(graph.reach(roots, name))
            reaching = fisher.merge_statistics(translated, reach)

            def change(key, variables, own, reaching, reached, head=head, model=model):
                fresh = model.init(key, blank)["params"]
                new, info = fisher.update(variables, own, reaching, fresh, config, head)
                # What is not changed is given back as it is, and so is not copied.
                new = jax.tree.map(
                    lambda n, o: o if n is o else jnp.where(reached, n, o),
                    new,
                    variables,
                )
                return new, jax.tree.map(lambda leaf: jnp.where(reached, leaf, 0), info)

            keys = jax.random.split(jax.random.fold_in(key, place), reach.shape[0])
            axes = (0, 0, None if own is None else 0, 0, 0)
            of_own = None if own is None else own[name]
            changed[name], infos[name] = jax.vmap(change, axes)(
                keys, variables[name], of_own, reaching, jnp.any(reach, axis=1)
            )
            if left is not None:
                moved = trees.stack(
                    [_moved(relative[r], heads[kind[r]], head) for r in roots]
                )
                amount = gone[_places(graph, name)]
                without = functools.partial(_without, match_trace=config.match_trace)
                left[name] = jax.vmap(without, (0, None, 0))(of_own, moved, amount)
        forgotten = _remember(graph, state.forgotten, asked)
        return GraphState(changed, left, included, forgotten), GraphInfo(infos, refused)

    return Unlearner(init, unlearn, config.access)


def by_architecture(
    graph: Graph, classifier: Classifier | Mapping[str, Classifier]
) -> dict[str, Classifier]:
    """Return the classifiers by architecture.

    Raises:
        ValueError: an architecture without classifier.
    """
    if not isinstance(classifier, Mapping):
        checks.check_is_classifier(classifier)
        return dict.fromkeys(graph.architectures, classifier)
    missing = sorted(set(graph.architectures) - set(classifier))
    if missing:
        raise ValueError(f"classifier has nothing for the architectures {missing}.")
    return {name: classifier[name] for name in graph.architectures}


def _places(graph: Graph, architecture: str) -> np.ndarray:
    return np.array([graph.names.index(name) for name in graph.rows(architecture)])


def _nobody(names: Sequence[str], width: int) -> Array:
    return jnp.zeros((len(names), width), bool)


def _memory(forgotten: Forgotten, place: int) -> Forgotten:
    return Forgotten(forgotten.id, forgotten.gone[place], forgotten.classes[place])


def _fishers(model, variables, examples, rows, config: FIUnConfig, head) -> Fisher:
    def one(member):
        variables, rows = member
        data = examples.take(rows)
        return fisher.data_fisher(model, variables, data, config, head)

    # One after the other: together they would hold every model's activations at once.
    return lax.map(one, (variables, rows))


def _included(data: NetworkData, num_classes: int) -> Included:
    examples, num_rows = data.examples, data.examples.id.shape[0]
    rank = jnp.argsort(jnp.argsort(examples.id))

    def one(rows):
        own = examples.take(rows)
        there = own.weight > 0
        at = jnp.where(there, rank[jnp.minimum(rows, num_rows - 1)], num_rows)
        held = jnp.zeros(num_rows, bool).at[at].set(True, mode="drop")
        of_class = jax.nn.one_hot(own.y, num_classes, dtype=jnp.float32)
        weight = jnp.where(there, own.weight, 0).astype(jnp.float32)
        return held, weight @ of_class

    return Included(*lax.map(one, data.rows))


def _gone(graph, included: Included, ids: Array, asked) -> tuple[Array, Included]:
    """How much of what each root's request names is in each node's Fisher, ``[M, J]``.

    Of classes everything that the node holds, of rows those that it holds itself. What
    several roots name counts for the first of them.
    """
    (rows, weight), amounts = included, []
    for root, request in asked.items():
        forget = request.forget
        reached = jnp.asarray(graph.reach([root]))  # [M, 1]
        place = jnp.minimum(jnp.searchsorted(ids, forget.id), ids.shape[0] - 1)
        there = (ids[place] == forget.id) & (forget.weight > 0)
        of_class = jax.nn.one_hot(forget.y, weight.shape[1], dtype=jnp.float32)
        counts = jnp.where(there, forget.weight, 0).astype(jnp.float32)
        held = rows[:, place].astype(jnp.float32)  # [M, F]
        named = jnp.matmul(
            held, of_class * counts[:, None], precision=lax.Precision.HIGHEST
        )
        named = jnp.where(request.classes, weight, jnp.minimum(named, weight))
        named = jnp.where(reached, named, 0)
        named_rows = jnp.zeros(ids.shape, bool).at[place].max(there)
        rows, weight = rows & ~(reached & named_rows[None]), weight - named
        amounts.append(jnp.sum(named, axis=1))
    return jnp.stack(amounts, axis=1), Included(rows, weight)


def _without(own: Fisher, roots: Fisher, amount: Array, match_trace: bool) -> Fisher:
    """One node's Fisher less ``amount``, ``[J]``, of what the roots' Fishers say."""
    if own.batch_size is not None:
        amount = amount / own.batch_size

    def squares(root, mine):
        scale = fisher.trace(mine) if match_trace else 1
        return scale * jnp.tensordot(amount, root, 1, precision=lax.Precision.HIGHEST)

    values = jax.tree.map(squares, roots.values, own.values)
    return fisher.subtract(own, values, jnp.sum(amount))


def _remember(graph: Graph, forgotten: Forgotten, asked) -> Forgotten:
    """Add what the roots forgot to the memory of everyone who stands on them."""
    ids, gone, classes = forgotten
    for root, request in asked.items():
        new = remember(_memory(forgotten, graph.names.index(root)), request)
        reached = jnp.asarray(graph.reach([root]))
        gone |= reached & new.gone[None]
        classes |= reached & request.classes[None]
    return Forgotten(ids, gone, classes)


def _translated(
    statistics: ForgetStatistics, source: Head, target: Head
) -> ForgetStatistics:
    if statistics.fisher is None:
        return statistics
    return statistics._replace(fisher=_moved(statistics.fisher, source, target))


def _moved(found: Fisher, source: Head, target: Head) -> Fisher:
    """The Fisher for models of another head, its columns by class."""
    if source == target:
        return found
    if source.path != target.path:
        raise ValueError(
            f"The Fishers of {source.path} cannot be handed to models whose last layer "
            f"is {target.path}: their trees are mismatched."
        )
    part = trees.get(found.values, source.path)
    part = move_columns(part, source.columns, target.columns)
    values = trees.replace(found.values, target.path, part)
    return dataclasses.replace(found, values=values)


def _check_roots(graph: Graph, forgotten: Forgotten, requests, config) -> None:
    """Raise where the roots cannot be asked, as far as values can be seen."""
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


def _check_forget(root: str, request: ForgetRequest, own: Fisher | None) -> None:
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
