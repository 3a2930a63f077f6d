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
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.inheritance.plans import Plan, by_architecture
from hyperforget_jax.inheritance.starting_points import starting_point
from hyperforget_jax.keys import as_threefry
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
        classifier: the model, or one by architecture, all with logits ``[N, C]``: see
            ``hf.models.widen``.
        data: the training examples of the plans, ``[N]``.
        plans: networks that differ in rows alone: same nodes, same edges.
        optimizer: any optax optimiser; anew at every node.
        steps: minibatches a node, of ``batch_size`` rows.
        columns: by architecture, the class of each column of its head; asked for only
            where a model is handed down between architectures.
        directory: where to keep the state of the run, to go on from if it is stopped.
        mesh: with a ``population`` axis, as for ``fit_population``.

    Returns:
        For each plan stacked models by architecture, leaves ``[S, M, ...]``.
    """
    keys = as_threefry(keys, "keys", shape=None)
    checks.check_sizes(steps=steps, batch_size=batch_size)
    _check_plans(keys, data, plans)
    graph = plans[0].graph
    classifiers = by_architecture(graph, classifier)
    _check_inheritance(graph, classifiers, columns, data)
    num_classes = checks.check_classifier(
        classifiers[graph.architectures[0]], None, data.x
    )
    seeds = keys.shape[0]
    # By node, of all plans and seeds, leaves [P * S, ...].
    trained: dict[str, Variables] = {}

    def start_of(name: str, own: Array) -> Variables:
        start = starting_point(graph, classifiers, columns, trained, name, own, data.x)
        known = [plan.graph.node(name).classes for plan in plans]
        unknown = [~np.isin(np.arange(num_classes), each) for each in known]
        return {**start, OUTPUT_MASK: np.repeat(unknown, seeds, axis=0)}

    for level, names in enumerate(graph.levels):
        for group in _groups(graph, names):
            model = classifiers[graph.node(group[0]).architecture]
            own = {name: _node_keys(keys, name, len(plans)) for name in group}
            variables = jax.tree.map(
                lambda *leaves: np.concatenate(leaves),
                *[start_of(name, own[name]) for name in group],
            )
            places = [graph.names.index(name) for name in group]
            rows = np.stack([plan.rows[at] for at in places for plan in plans])
            rows = np.repeat(rows, seeds, axis=0)
            if rows.any():
                edges = graph.parents(group[0])
                frozen = tuple(sorted({path for edge in edges for path in edge.frozen}))
                folder = re.sub(r"\W", "-", f"level-{level}-{group[0]}")
                population = fit_population(
                    jnp.concatenate(list(own.values())),
                    _evaluating(model) if frozen else model,
                    data,
                    _training(optimizer, frozen),
                    steps,
                    members=rows.shape[0],
                    weights=jnp.asarray(rows * np.asarray(data.weight), jnp.int32),
                    starts=variables,
                    batch_size=batch_size,
                    directory=None if directory is None else Path(directory) / folder,
                    progress=progress,
                    mesh=mesh,
                )
                variables = jax.tree.map(np.asarray, population.variables)
            for at, name in enumerate(group):
                members = slice(at * len(plans) * seeds, (at + 1) * len(plans) * seeds)
                trained[name] = _members(variables, members)

    def models_of(plan: int, architecture: str) -> Variables:
        members = slice(plan * seeds, (plan + 1) * seeds)
        return jax.tree.map(
            lambda *leaves: jnp.asarray(np.stack(leaves, axis=1)),
            *[_members(trained[name], members) for name in graph.rows(architecture)],
        )

    return [
        {architecture: models_of(plan, architecture) for architecture in classifiers}
        for plan in range(len(plans))
    ]


def _check_plans(keys: Array, data: Examples, plans: Sequence[Plan]) -> None:
    if not len(plans):
        raise ValueError("plans is empty: there is nothing to train.")
    if keys.ndim != 1:
        raise ValueError(f"keys must be typed keys [S], got shape {keys.shape}.")
    first = plans[0]
    kinds = [(node.name, node.architecture) for node in first.graph.nodes]
    for plan in plans:
        own = [(node.name, node.architecture) for node in plan.graph.nodes]
        if own != kinds or plan.graph.edges != first.graph.edges:
            raise ValueError("plans must have the same nodes and edges.")
        plan.check_data(data)
        blank = plan.rows.any(axis=1) != first.rows.any(axis=1)
        if blank.any():
            name = first.graph.names[int(blank.argmax())]
            raise ValueError(
                f"{name} is trained in one plan and has no rows in another: there is "
                "nothing left to retrain it on."
            )


def _check_inheritance(graph, classifiers, columns, data) -> None:
    """Raise before anything is trained that training would trip over later."""
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
        where = f"{edge.parent} -> {edge.child}"
        paths = trees.leaf_paths(shapes[of_child]["params"])
        for frozen in edge.frozen:
            if not any(trees.leads_to(frozen, path) for path in paths):
                raise ValueError(
                    f"{where} freezes {frozen!r}, which {edge.child} does not have; "
                    f"its parameters are {', '.join(paths)}."
                )
        if of_parent != of_child and not {of_parent, of_child} <= set(columns or {}):
            raise ValueError(
                f"{where} goes from the architecture {of_parent!r} to {of_child!r}: "
                "columns must say which class each output of either is."
            )


def _groups(graph: Graph, names: Sequence[str]) -> list[list[str]]:
    """The nodes of a level that are trained together."""
    groups: dict[Any, list[str]] = {}
    for name in names:
        node, edges = graph.node(name), graph.parents(name)
        kind = (
            node.architecture,
            tuple(sorted({path for e in edges for path in e.frozen})),
            tuple(sorted({graph.node(e.parent).architecture for e in edges})),
            bool(node.data),
            not edges,
        )
        groups.setdefault(kind, []).append(name)
    return list(groups.values())


def _members(variables: Variables, members: slice) -> Variables:
    return jax.tree.map(lambda leaf: leaf[members], variables)


def _node_keys(keys: Array, name: str, plans: int) -> Array:
    """A key for each plan and seed, drawn from the seed's key and the name alone."""
    own = jax.vmap(jax.random.fold_in, (0, None))(
        keys, np.uint32(zlib.crc32(name.encode()))
    )
    return jnp.tile(own, plans)


# Remembered, so that levels of one kind are one optimiser and share a compilation.
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


@dataclasses.dataclass(frozen=True)
class _EvaluationMode:
    """``apply`` in the place of ``apply_train``: nothing is random, statistics stay."""

    apply: Any

    def __call__(self, key, variables, x):
        del key
        return self.apply(variables, x), variables


def _evaluating(classifier: Classifier) -> Classifier:
    return classifier._replace(apply_train=_EvaluationMode(classifier.apply))
