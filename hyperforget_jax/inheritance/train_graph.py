"""Train a network: level by level, the models of one level as one population."""

import dataclasses
import functools
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperforget_jax import checks, trees
from hyperforget_jax.base import OUTPUT_MASK, Array, Classifier, Examples, Variables
from hyperforget_jax.inheritance.graph import Edge, Graph, Node
from hyperforget_jax.inheritance.graph_fiun import by_architecture
from hyperforget_jax.inheritance.plans import Plan
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models.head import find_head, hand_down
from hyperforget_jax.training import fit_population

__all__ = ["train", "train_networks"]


def train(
    key: Array,
    classifier: Classifier | Mapping[str, Classifier],
    data: Examples,
    plan: Plan,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch_size: int = 64,
    columns: Mapping[str, Sequence[int]] | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[Graph, dict[str, Variables]]:
    """Train one network: :func:`train_networks` of one plan and one key.

    Args:
        key: a typed key, consumed.
        classifier: as for :func:`train_networks`, like all that follow.
        data: the training examples of the plan, ``[N]``.
        plan: who sees what and inherits from whom.
        optimizer: any optax optimiser; begun anew at every node.
        steps: minibatches a node.
        batch_size: rows a minibatch.
        columns: by architecture, the class of each column of its head.
        directory: where to keep the state of the run.
        progress: whether to show a progress bar a level.
        mesh: with a ``population`` axis.

    Returns:
        The graph, its nodes with the seed they were drawn from, and stacked models by
        architecture, leaves ``[M, ...]``.
    """
    checks.check_key(key)
    (stacked,) = train_networks(
        key[None],
        classifier,
        data,
        [plan],
        optimizer,
        steps,
        batch_size=batch_size,
        columns=columns,
        directory=directory,
        progress=progress,
        mesh=mesh,
    )
    # Other draws make other models, and other ids.
    seed = zlib.crc32(np.asarray(jax.random.key_data(key)).tobytes())
    nodes = tuple(dataclasses.replace(node, seed=seed) for node in plan.graph.nodes)
    return dataclasses.replace(plan.graph, nodes=nodes), trees.take(stacked, 0)


def train_networks(
    keys: Array,
    classifier: Classifier | Mapping[str, Classifier],
    data: Examples,
    plans: Sequence[Plan],
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch_size: int = 64,
    columns: Mapping[str, Sequence[int]] | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
    mesh: jax.sharding.Mesh | None = None,
) -> list[dict[str, Variables]]:
    """Train networks of one shape: level by level, all seeds and all plans at once.

    A node starts from the weighted mean of its parents' variables, normalisation
    statistics included, or afresh if it has none; a node without rows is that mean.
    Heads are masked to the classes that a node knows. Where parameters are frozen the
    node is trained in evaluation mode, so that its normalisation statistics are
    frozen too. Between architectures, parameters of the same path and shape are
    handed down, and of the head the columns of the same classes; the rest is fresh.

    A node is drawn from its seed's key and its name alone, whatever the plan: a network
    and its retrained counterpart differ in their rows only.

    Args:
        keys: typed keys, ``[S]``, one a seed.
        classifier: the model, or one by architecture, all with logits ``[N, C]``: a
            narrower one is made so by :func:`widen`.
        data: the training examples of the plans, ``[N]``.
        plans: networks that differ in rows alone: same nodes, same edges.
        optimizer: any optax optimiser; begun anew at every node.
        steps: minibatches a node.
        batch_size: rows a minibatch.
        columns: by architecture, the class of each column of its head; asked for only
            where a model is handed down between architectures.
        directory: where to keep the state of the run, to go on from if it is stopped.
        progress: whether to show a progress bar a level.
        mesh: with a ``population`` axis, as for ``fit_population``.

    Returns:
        For each plan stacked models by architecture, leaves ``[S, M, ...]``.

    Raises:
        TypeError, ValueError: plans of other shapes or other data, an architecture
            without classifier, and as for ``fit_population``.
    """
    keys = as_threefry(keys, "keys", shape=None)
    checks.check_sizes(steps=steps, batch_size=batch_size)
    _check_plans(keys, data, plans)
    graph = plans[0].graph
    classifiers = by_architecture(graph, classifier)
    num_classes = checks.check_classifier(
        classifiers[graph.architectures[0]], None, data.x
    )
    _check_inheritance(graph, classifiers, columns, data)
    trained: dict[str, Variables] = {}
    for level, names in enumerate(graph.levels):
        for group in _groups(graph, names):
            members = [
                (plan, seed, name)
                for name in group
                for plan in range(len(plans))
                for seed in range(keys.shape[0])
            ]
            node, edges = graph.node(group[0]), graph.parents(group[0])
            model = classifiers[node.architecture]
            member_keys = _keys(
                keys,
                np.array([seed for _, seed, _ in members]),
                np.array([zlib.crc32(n.encode()) for *_, n in members], np.uint32),
            )
            starts = _concatenate(
                [
                    _start(
                        graph, classifiers, columns, trained, name, member_keys[i], data
                    )
                    for i, name in _blocks(members)
                ]
            )
            starts[OUTPUT_MASK] = np.stack(
                [
                    _unknown(plans[plan].graph.node(name), num_classes)
                    for plan, _, name in members
                ]
            )
            rows = np.stack(
                [plans[plan].rows[graph.names.index(name)] for plan, _, name in members]
            )
            if rows.any():
                frozen = tuple(sorted({path for edge in edges for path in edge.frozen}))
                own = None
                if directory is not None:
                    safe = re.sub(r"\W", "-", f"level-{level}-{group[0]}")
                    own = Path(directory) / safe
                population = fit_population(
                    member_keys,
                    _evaluating(model) if frozen else model,
                    data,
                    _training(optimizer, frozen),
                    steps,
                    members=len(members),
                    weights=jnp.asarray(rows * np.asarray(data.weight), jnp.int32),
                    starts=starts,
                    batch_size=batch_size,
                    directory=own,
                    progress=progress,
                    mesh=mesh,
                )
                starts = jax.tree.map(np.asarray, population.variables)
            trained |= _split(starts, group, len(plans), keys.shape[0])

    def models_of(plan: int) -> dict[str, Variables]:
        return {
            architecture: jax.tree.map(
                lambda *leaves: jnp.asarray(
                    np.stack([leaf[plan] for leaf in leaves], axis=1)
                ),
                *[trained[name] for name in graph.rows(architecture)],
            )
            for architecture in graph.architectures
        }

    return [models_of(index) for index in range(len(plans))]


def _check_plans(keys: Array, data: Examples, plans: Sequence[Plan]) -> None:
    if not len(plans):
        raise ValueError("plans is empty: there is nothing to train.")
    if keys.ndim != 1:
        raise ValueError(f"keys must be typed keys [S], got shape {keys.shape}.")
    first = plans[0]
    for plan in plans:
        if _shape(plan.graph) != _shape(first.graph):
            raise ValueError(
                "plans must have the same nodes and edges: train others by themselves."
            )
        plan.check_data(data)
        blank = plan.rows.any(axis=1) != first.rows.any(axis=1)
        if blank.any():
            name = first.graph.names[int(blank.argmax())]
            raise ValueError(
                f"{name} is trained in one plan and has no rows in another: there is "
                "nothing left to retrain it on."
            )


def _shape(graph: Graph) -> tuple[Any, ...]:
    """What plans that are trained together have in common."""
    return graph.edges, [(node.name, node.architecture) for node in graph.nodes]


def _check_inheritance(graph, classifiers, columns, data) -> None:
    """Raises before anything is trained that training would trip over later."""
    shapes = {
        name: jax.eval_shape(model.init, jax.random.key(0), data.x)
        for name, model in classifiers.items()
    }
    for model in classifiers.values():
        checks.check_classifier(model, None, data.x)
    for edge in graph.edges:
        of_parent, of_child = (
            graph.node(name).architecture for name in (edge.parent, edge.child)
        )
        _check_frozen(edge, shapes[of_child])
        if of_parent != of_child and not {of_parent, of_child} <= set(columns or {}):
            raise ValueError(
                f"{edge.parent} -> {edge.child} goes from the architecture "
                f"{of_parent!r} to {of_child!r}: columns must say which class each "
                "output of either is."
            )


def _groups(graph: Graph, names: Sequence[str]) -> list[list[str]]:
    """The nodes of a level that are trained together."""
    groups: dict[Any, list[str]] = {}
    for name in names:
        edges = graph.parents(name)
        kinds = (
            graph.node(name).architecture,
            tuple(sorted({path for e in edges for path in e.frozen})),
            tuple(sorted({graph.node(e.parent).architecture for e in edges})),
            bool(graph.node(name).data),
            not edges,
        )
        groups.setdefault(kinds, []).append(name)
    return list(groups.values())


def _blocks(members):
    """The places of each node's members, which stand together."""
    names = list(dict.fromkeys(name for _, _, name in members))
    size = len(members) // len(names)
    return [(np.arange(i * size, (i + 1) * size), name) for i, name in enumerate(names)]


def _split(stacked, group, plans, seeds) -> dict[str, Variables]:
    """Each node's variables, ``[plans, seeds, ...]``, from those of all members."""
    shape = (len(group), plans, seeds)
    split = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), stacked)
    return {name: trees.take(split, index) for index, name in enumerate(group)}


@jax.jit
def _keys(keys: Array, seeds: Array, names: Array) -> Array:
    """A key for each member, drawn from its seed's key and its node's name."""
    return jax.vmap(jax.random.fold_in)(keys[seeds], names)


def _unknown(node: Node, num_classes: int) -> np.ndarray:
    """The classes a node has never heard of, bool, ``[C]``."""
    return ~np.isin(np.arange(num_classes), node.classes)


@functools.partial(jax.jit, static_argnums=0)
def _fresh(classifier: Classifier, keys: Array, x: Array) -> Variables:
    # Shapes alone: what the examples hold is not for whoever starts.
    blank = jnp.zeros((1, *x.shape[1:]), x.dtype)
    return jax.vmap(lambda key: classifier.init(key, blank))(keys)


def _start(graph, classifiers, columns, trained, name, keys, data) -> Variables:
    """The variables a node starts from, ``[plans * seeds, ...]``."""
    node, edges = graph.node(name), graph.parents(name)
    model = classifiers[node.architecture]
    if not edges:
        return jax.tree.map(np.asarray, _fresh(model, keys, data.x))
    handed = []
    for edge in edges:
        parent = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), trained[edge.parent]
        )
        origin = graph.node(edge.parent).architecture
        if origin != node.architecture:
            fresh = _fresh(model, keys, data.x)
            source, target = (
                find_head(classifiers[name], trees.take(one, 0), data.x, columns[name])
                for name, one in ((origin, parent), (node.architecture, fresh))
            )
            parent = hand_down(parent, fresh, source, target)
            parent = jax.tree.map(np.asarray, parent)
        handed.append(parent)
    return weighted_sum(edges, handed)


def weighted_sum(edges: Sequence[Edge], variables: Sequence[Variables]) -> Variables:
    """The mean of the parents' variables; what is not floating point is the first's."""
    weights = [edge.weight for edge in edges]

    def mean(*leaves):
        if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
            return leaves[0]
        return sum(w * leaf for w, leaf in zip(weights, leaves, strict=True))

    return jax.tree.map(mean, *variables)


def _concatenate(parts: Sequence[Variables]) -> Variables:
    # The masks that came along are put right afterwards.
    bare = [{k: v for k, v in tree.items() if k != OUTPUT_MASK} for tree in parts]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *bare)


# Remembered, so that levels of one kind are one optimiser and one classifier, and
# share their compilations.
@functools.cache
def _training(optimizer: optax.GradientTransformation, frozen: tuple[str, ...]):
    if not frozen:
        return optimizer

    def label(params):
        still = jax.tree.map(lambda _: "frozen", trees.restrict(params, frozen))
        return trees.overlay(jax.tree.map(lambda _: "trained", params), still)

    return optax.multi_transform(
        {"trained": optimizer, "frozen": optax.set_to_zero()}, label
    )


@functools.cache
def _evaluating(classifier: Classifier) -> Classifier:
    def apply_train(key, variables, x):
        del key  # Nothing is random in evaluation mode.
        return classifier.apply(variables, x), variables

    return classifier._replace(apply_train=apply_train)


def _check_frozen(edge: Edge, variables: Any) -> None:
    paths = trees.leaf_paths(variables["params"])
    for frozen in edge.frozen:
        if not any(trees.leads_to(frozen, path) for path in paths):
            raise ValueError(
                f"{edge.parent} -> {edge.child} freezes {frozen!r}, which {edge.child} "
                f"does not have; its parameters are {', '.join(paths)}."
            )
