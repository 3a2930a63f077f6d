"""Small families of models: a diamond with a tail, and any graph at all."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp

from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.inheritance import Edge, Graph, GraphState, Included, Node

NODES = (
    Node("start", 0, (0, 1, 2), data="all", seed=3),
    Node("left", 1, (0, 1, 2), data="one half"),
    Node("right", 1, (0, 1, 2), data="other half"),
    Node("merged", 2, (0, 1, 2)),
    Node("small", 4, (1, 2), data="new", architecture="small"),
)
EDGES = (
    Edge("start", "left"),
    Edge("start", "right"),
    Edge("left", "merged", "average", 0.25),
    Edge("right", "merged", "average", 0.75),
    Edge("merged", "small", "transfer", frozen=("Dense_0",)),
)


def models():
    """Four models of one architecture and one of another, all leaves different."""
    out = {}
    for row, (name, count, width) in enumerate(
        [("default", 4, 3), ("small", 1, 2)], start=1
    ):
        kernel = row + jnp.arange(float(count * width)).reshape(count, width)
        params = {"Dense_0": {"kernel": kernel}, "Dense_1": {"bias": -kernel[:, :1]}}
        out[name] = {"params": params, "batch_stats": {}}
    return out


def state(fisher: bool = False) -> GraphState:
    """A state of the diamond's, with different Fishers or without."""
    variables, own, included = models(), None, None
    if fisher:
        own = {
            name: Fisher(
                jax.tree.map(jnp.square, stacked["params"]),
                jnp.arange(1.0, len(DIAMOND.rows(name)) + 1),
                estimator="batch_gradient" if name == "default" else "per_example",
                batch_size=32 if name == "default" else None,
            )
            for name, stacked in variables.items()
        }
        included = Included(jnp.eye(5, 7) > 0, jnp.ones((5, 3)))
    forgotten = Forgotten(jnp.arange(7), jnp.eye(5, 7) > 0, jnp.eye(5, 3) > 0)
    return GraphState(variables, own, included, forgotten)


DIAMOND = Graph(NODES, EDGES)


@st.composite
def dags(draw) -> Graph:
    """Up to eight nodes, shuffled, with any edges that lead from early to late."""
    count = draw(st.integers(1, 8))
    pairs = [(i, j) for j in range(count) for i in range(j)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    parents = {j: sum(child == j for _, child in chosen) for j in range(count)}
    edges = [
        Edge(f"n{i}", f"n{j}", "average", 1 / parents[j])
        for i, j in draw(st.permutations(chosen))
    ]
    nodes = [Node(f"n{i}", 2 * i, (i, i + 1), seed=i) for i in range(count)]
    return Graph(draw(st.permutations(nodes)), edges)
