"""FIUn on a whole graph: statistics at the roots, one update for all descendants."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import checks, fisher, trees
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import Fisher, FIUnConfig, ForgetStatistics, UpdateInfo
from hyperforget_jax.fisher.update import anything_asked, if_asked, update_models
from hyperforget_jax.forgotten import Forgotten, check_known, recall, remember
from hyperforget_jax.inheritance.graph import Graph, check_models
from hyperforget_jax.inheritance.included import (
    Included,
    check_forget,
    check_roots,
    measure_included,
    take_out,
    without_share,
)
from hyperforget_jax.inheritance.plans import NetworkData, by_architecture
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models.head import Head, find_head, move_columns

__all__ = ["GraphInfo", "GraphState", "fiun"]

_DEFAULT = FIUnConfig()


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
    config: FIUnConfig | str = _DEFAULT,
    *,
    columns: Mapping[str, Sequence[int]] | None = None,
) -> Unlearner:
    """Make a whole graph of models forget: the roots, and all who inherit from them.

    ``init(key, variables, data)`` takes stacked models by architecture, as ``train``
    gives them, and ``plan.data(examples)``. ``unlearn(key, state, requests)`` takes a
    dictionary of requests by root, such as ``plan.requests(request)``, and reads the
    roots' forget data alone. A model that descends from several roots forgets what any
    of them does. ``record`` writes the audit. Under ``jax.jit(unlearn,
    donate_argnums=1)`` models and Fishers are changed in place, those that ``init`` was
    given too unless it was jitted.

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

    Examples:
        >>> import jax
        >>> import hyperforget_jax as hf
        >>> train = hf.data.load("digits").train
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> plan = hf.inheritance.federated_dag(keys[0], train, sensitive=[3])
        >>> graph = plan.graph  # hf.inheritance.train gives graph and models
        >>> fresh = jax.random.split(keys[1], len(graph.names))
        >>> init = jax.vmap(classifier.init, (0, None))
        >>> models = {"default": init(fresh, train.x)}
        >>> unlearner = hf.inheritance.fiun(graph, classifier)
        >>> state = unlearner.init(keys[2], models, plan.data(train))
        >>> requests = plan.requests(hf.forget_classes(train, [3]))
        >>> state, info = jax.jit(unlearner.unlearn)(keys[3], state, requests)
        >>> state.forgotten.classes[graph.names.index("r4")].nonzero()[0].tolist()
        [3]

    References:
        Liu et al., Fishers harvest parallel unlearning in inherited model networks,
        arXiv 2408.08493, 2024.
    """
    checks.check_is(Graph, "an inheritance.Graph", graph=graph)
    config = fisher.as_config(config)
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

    def init(key: Array, variables: dict[str, Variables], data: Any) -> GraphState:
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

            def measure(name, of_node):
                model, data = classifiers[name], examples.take(of_node[1])
                return fisher.data_fisher(model, of_node[0], data, config, heads[name])

            # One node after the other: together they would hold every model's
            # activations at once.
            own = {
                name: lax.map(
                    functools.partial(measure, name),
                    (variables[name], rows[graph.places(name)]),
                )
                for name in classifiers
            }
            included = measure_included(data, num_classes)
        forgotten = Forgotten(
            jnp.sort(examples.id),
            _nobody(graph.names, examples.id.shape[0]),
            _nobody(graph.names, num_classes),
        )
        return GraphState(variables, own, included, forgotten)

    def unlearn(key: Array, state: GraphState, requests: Any):
        key = as_threefry(key)
        checks.check_is(GraphState, "what init gave", state=state)
        check_roots(graph, state.forgotten, requests, config)
        variables, own = state.variables, state.fisher
        roots = tuple(sorted(requests))  # As jit gives dictionaries back.
        heads: dict[str, Head] = {}
        taken, refused, asked = {}, {}, {}
        for root in roots:
            request = requests[root]
            model, of_root = classifiers[kind[root]], graph.take(variables, root)
            checks.check_request(model, of_root, request)
            known = _memory(state.forgotten, graph.names.index(root))
            check_known(known, request)
            request, refused[root] = recall(known, request)
            whole = None if own is None else graph.take(own, root)
            check_forget(root, request, whole)
            heads = heads or heads_of(variables, request.forget.x)
            head = heads[kind[root]]
            found = fisher.forget_statistics(model, of_root, request, config, head)
            scaled = fisher.on_scale(found, whole, config)
            relative = None
            if whole is not None and found.fisher is not None:
                relative = fisher.by_trace(found.fisher, whole, config)
            taken[root] = scaled, relative
            asked[root] = request
        x = asked[roots[0]].forget.x
        # Shapes alone: what examples hold is not for a fresh model.
        blank = jnp.zeros((1, *x.shape[1:]), x.dtype)

        gone: Any = None
        included = state.included
        if included is not None:
            gone, included = take_out(graph, included, state.forgotten.id, asked)
        is_asked, changed, infos = anything_asked(asked), {}, {}
        left: Any = None if own is None else {}
        for place, name in enumerate(graph.architectures):
            head = heads[name]
            scaled, relative = trees.stack(
                [_translated(taken[root], heads[kind[root]], head) for root in roots]
            )
            update = functools.partial(
                update_models,
                key=jax.random.fold_in(key, place),
                statistics=scaled,
                reach=jnp.asarray(graph.reach(roots, name)),
                blank=blank,
                classifier=classifiers[name],
                config=config,
                head=head,
            )
            of_own: Any = None if own is None else own[name]
            of_gone: Any = None if gone is None else gone[graph.places(name)]
            answer: Any = if_asked(is_asked, update, variables[name], of_own, of_gone)
            changed[name], infos[name], of_gone = answer
            if left is not None:
                shares: Any = relative
                without = functools.partial(without_share, roots=shares, config=config)
                left[name] = jax.vmap(without)(of_own, of_gone)
        forgotten = _remember(graph, state.forgotten, asked)
        return GraphState(changed, left, included, forgotten), GraphInfo(infos, refused)

    # Which classes are asked for decides what the Fishers lose, whatever the config.
    reads = config.access.unlearn | {"classes"}
    access = dataclasses.replace(config.access, unlearn=reads)
    return Unlearner(init, unlearn, access)


def _nobody(names: Sequence[str], width: int) -> Array:
    return jnp.zeros((len(names), width), bool)


def _memory(forgotten: Forgotten, place: int) -> Forgotten:
    return Forgotten(forgotten.id, forgotten.gone[place], forgotten.classes[place])


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
    taken: tuple[ForgetStatistics, Fisher | None], source: Head, target: Head
) -> tuple[ForgetStatistics, Fisher | None]:
    """What a root hands to models of another head: Fishers with columns by class."""
    scaled, relative = taken
    if relative is None or source == target:
        return taken
    if source.path != target.path:
        raise ValueError(
            f"The Fishers of {source.path} cannot be handed to models whose last layer "
            f"is {target.path}: their trees are mismatched."
        )

    def moved(found: Fisher) -> Fisher:
        part = trees.get(found.values, source.path)
        part = move_columns(part, source.columns, target.columns)
        values = trees.replace(found.values, target.path, part)
        return dataclasses.replace(found, values=values)

    found: Any = scaled.fisher
    return scaled._replace(fisher=moved(found)), moved(relative)
