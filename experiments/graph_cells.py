"""One cell of a table of audits: one method on graphs of models that inherit.

A graph is asked as one model is: its variables are stacked over its M nodes, and its
training rows lie node by node. It is judged by all its nodes together, each on its own
rows, and beside that stands the worst node.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import audit_attacks
import audit_cells
import audit_scenes
import jax
import numpy as np
from recipes import Recipe

import hyperforget_jax as hf
from hyperforget_jax import audits, inheritance, trees
from hyperforget_jax.audits.shadow import rows_there
from hyperforget_jax.base import OUTPUT_MASK, Variables

GRAPH_METHOD = "inheritance.fiun"
_FARTHEST, _ATTACK = "mean confidence", "u-lira"


def cells(recipe: Recipe, scene: audit_scenes.Scene, *arguments) -> audit_cells.Cells:
    """Make the cells of a scenario, of graphs or of models alone."""
    kind = audit_cells.Cells if scene.plan is None else GraphCells
    return kind(recipe, scene, *arguments)


class GraphCells(audit_cells.Cells):
    """The cells of a scenario of graphs: each node's cells, side by side.

    Weights are not attacked, and retraining is not timed.
    """

    def __init__(self, recipe: Recipe, scene: audit_scenes.Scene, *arguments):
        # Shorter, and with weaker decay, since a node goes on from another.
        recipe = dataclasses.replace(
            recipe, steps=recipe.steps // 4, weight_decay=0.3 * recipe.weight_decay
        )
        super().__init__(recipe, scene, *arguments)
        self.plan: Any = scene.plan
        self._trained: dict[str, Variables] = {}
        self._nodes: list[audit_cells.Cells] = []

    def graphs(self) -> dict[str, Variables]:
        """Return graphs of seeds of their own, trained now or in a run before.

        ``original``, ``[K, M, ...]``; ``retrained``, ``[2 K, M, ...]``; and K more of
        those, which answer as ``retrain``.
        """
        if not self._trained:
            count = self.models
            # Heads as open as the originals': a class that is masked was not unlearned.
            without = self.plan.without(self.scene.request)
            without = dataclasses.replace(without, graph=self.plan.graph)
            keys = jax.random.split(self.key_train, 4 * count)
            original, retrained = (
                self._train_graphs(keys, plan, name)
                for name, plan, keys in (
                    ("original", self.plan, keys[:count]),
                    ("retrained", without, keys[count:]),
                )
            )
            self._trained = {
                "original": original,
                "retrained": trees.take(retrained, slice(2 * count)),
                "retrain": trees.take(retrained, slice(2 * count, None)),
            }
        return self._trained

    def _train_graphs(self, keys, plan, name: str) -> Variables:
        recipe = self.recipe
        (trained,) = inheritance.train_networks(
            keys,
            self.classifier,
            self.scene.splits.train,
            [plan],
            recipe.optimizer(recipe.steps),
            recipe.steps,
            batch_size=recipe.batch_size,
            directory=self.out / "shadows" / name,
        )
        # Every node knows all classes: its mask is empty.
        return {k: v for k, v in trained["default"].items() if k != OUTPUT_MASK}

    def _train(self) -> audits.Shadows:
        there, graphs = rows_there(self.scene.request), self.graphs()
        included = np.broadcast_to(there, (self.models, there.size))
        return audits.Shadows(included, graphs["original"], graphs["retrained"])

    def _adapted(self, method: str, unlearner: hf.Unlearner) -> hf.Unlearner:
        graph = self.plan.graph
        if method == GRAPH_METHOD:
            roots = self.plan.roots(self.scene.request)
            return audit_scenes.at_roots(unlearner, graph, roots)
        return audit_scenes.node_by_node(unlearner, len(graph.names))

    def _answers(self, method: str, unlearner: hf.Unlearner, folder) -> Variables:
        # Alone, a node is retrained without its parents.
        if method == "retrain":
            return self.graphs()["retrain"]
        return super()._answers(method, unlearner, folder)

    def _costs(self, method: str, unlearner: hf.Unlearner) -> dict[str, Any]:
        return {} if method == "retrain" else super()._costs(method, unlearner)

    def nodes(self) -> list[audit_cells.Cells]:
        """Return each node's cells: its own rows, and its model of every graph."""
        if not self._nodes:
            size, shadows = len(self.plan.graph.names), self.shadow_models()
            asked = audit_scenes.shares(self.scene.request, size)
            for place in range(size):
                request = trees.take(asked, place)
                there = rows_there(request)
                own = audits.Shadows(
                    np.broadcast_to(there, (self.models, there.size)),
                    _at(place, shadows.original),
                    _at(place, shadows.retrained),
                )
                node = audit_cells.Cells(
                    self.recipe,
                    self.scene._replace(request=request),
                    self.models,
                    self.out,
                    most=self.most // size,
                    shadows=own,
                )
                self._nodes.append(node)
        return self._nodes

    def _by_node(self, measure: Callable[..., Any], models) -> list[Any]:
        return [measure(node, _at(m, models)) for m, node in enumerate(self.nodes())]

    def claim(self, unlearned) -> audits.Claim:
        claims = self._by_node(audit_cells.Cells.claim, unlearned)
        logits, labels, kinds = zip(*claims, strict=True)
        together = np.concatenate(logits, axis=1), np.concatenate(labels)
        return audits.Claim(*together, kinds[0])

    def posed(self, models) -> audit_attacks.Posed:
        found = self._by_node(audit_cells.Cells.posed, models)
        scores = {
            name: np.concatenate([each.scores[name] for each in found], axis=1)
            for name in found[0].scores
        }
        own = np.concatenate([each.own for each in found], axis=1)
        return audit_attacks.Posed(scores, own)

    def accuracies(self, models) -> dict[str, np.ndarray]:
        found = self._by_node(audit_cells.Cells.accuracies, models)
        return means(found, "retain_accuracy_test")

    def _further(self, unlearned, posed) -> list[audits.Audited]:
        """Tell how far the worst node is, beside the worst of the references."""
        claims = self._by_node(audit_cells.Cells.claim, unlearned)
        judged = [audits.judge(*claim, exchanges=0).audits for claim in claims]
        apart = [found for of in judged for found in of if found.audit == _FARTHEST]
        ends = np.cumsum([claim.labels.size for claim in claims])[:-1]
        references = self._reference_audits()
        attacked = [
            audits.Audited(f"{_ATTACK}, auc", value, None, floor, original)
            for value, floor, original in zip(
                _aucs(posed, ends),
                _aucs(references["floor"], ends),
                _aucs(references["original"], ends),
                strict=True,
            )
        ]
        return [worst(apart), worst(attacked)]


def means(
    by_node: Sequence[Mapping[str, np.ndarray]], low: str
) -> dict[str, np.ndarray]:
    """Average over nodes, and add the node where one number is lowest on average."""
    found = {name: np.mean([of[name] for of in by_node], axis=0) for name in by_node[0]}
    lowest = min((of[low] for of in by_node), key=np.mean)
    return {**found, f"{low}_worst_node": lowest}


def worst(by_node: Sequence[audits.Audited]) -> audits.Audited:
    """Report the farthest node of each kind of graphs."""
    value, floor, original = (
        max(getattr(found, kind) for found in by_node)
        for kind in ("value", "floor", "original")
    )
    name = f"{by_node[0].audit}, worst node"
    return audits.Audited(name, value, None, floor, original)


def _aucs(posed: audit_attacks.Posed, ends: np.ndarray) -> list[float]:
    parts = (np.split(of, ends, axis=1) for of in (posed.scores[_ATTACK], posed.own))
    return [
        audits.rates(scores[own], scores[~own], levels=()).auc
        for scores, own in zip(*parts, strict=True)
    ]


def _at(place: int, stacked):
    """One node of each graph, ``[K, ...]``, of leaves ``[K, M, ...]``."""
    return jax.tree.map(lambda leaf: leaf[:, place], stacked)
