"""What a node starts from: afresh, or from the mean of its parents."""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import trees
from hyperforget_jax.base import OUTPUT_MASK, Array, Classifier, Variables
from hyperforget_jax.inheritance.graph import Graph
from hyperforget_jax.models.head import find_head, hand_down

__all__ = ["starting_point"]


@functools.partial(jax.jit, static_argnums=0)
def _fresh(classifier: Classifier, keys: Array, x: Array) -> Variables:
    # Shapes alone: what the examples hold is not for whoever starts.
    blank = jnp.zeros((1, *x.shape[1:]), x.dtype)
    return jax.vmap(lambda key: classifier.init(key, blank))(keys)


def starting_point(
    graph: Graph,
    classifiers: Mapping[str, Classifier],
    columns: Mapping[str, Sequence[int]] | None,
    trained: Mapping[str, Variables],
    name: str,
    keys: Array,
    x: Array,
) -> Variables:
    """Compute what a node starts from, leaves ``[P, ...]``, without a mask.

    Args:
        graph: who inherits from whom.
        classifiers: by architecture.
        columns: by architecture, where models are handed down between them.
        trained: by node, its parents' variables, ``[P, ...]``.
        name: the node.
        keys: for what is fresh, ``[P]``.
        x: inputs, of which shapes matter alone.
    """
    kind, edges = graph.node(name).architecture, graph.parents(name)
    if not edges:
        return jax.tree.map(np.asarray, _fresh(classifiers[kind], keys, x))
    handed = []
    for edge in edges:
        parent, origin = trained[edge.parent], graph.node(edge.parent).architecture
        if origin != kind:
            fresh = _fresh(classifiers[kind], keys, x)
            source, target = (
                find_head(classifiers[a], trees.take(one, 0), x, (columns or {})[a])
                for a, one in ((origin, parent), (kind, fresh))
            )
            parent = hand_down(parent, fresh, source, target)
            parent = jax.tree.map(np.asarray, parent)
        handed.append({k: v for k, v in parent.items() if k != OUTPUT_MASK})

    def mean(*leaves):
        if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
            return leaves[0]
        return sum(e.weight * leaf for e, leaf in zip(edges, leaves, strict=True))

    return jax.tree.map(mean, *handed)
