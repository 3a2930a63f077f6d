"""Small families of models: a diamond with a tail, and any graph at all."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp

from hyperforget_jax.fisher import Fisher
from hyperforget_jax.inheritance import Edge, Graph, Models, Node

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


def models(fisher: bool = False) -> dict[str, Models]:
    """Four models of one architecture and one of another, all leaves different."""
    out = {}
    for row, (name, count, width) in enumerate(
        [("default", 4, 3), ("small", 1, 2)], start=1
    ):
        kernel = row + jnp.arange(float(count * width)).reshape(count, width)
        params = {"Dense_0": {"kernel": kernel}, "Dense_1": {"bias": -kernel[:, :1]}}
        information = Fisher(
            jax.tree.map(jnp.square, params),
            jnp.arange(1.0, count + 1),
            estimator="batch_gradient" if row == 1 else "per_example",
            labels="given",
            batch_size=32 if row == 1 else None,
        )
        variables = {"params": params, "batch_stats": {}}
        out[name] = Models(variables, information if fisher else None)
    return out


def diamond(fisher: bool = False) -> Graph:
    return Graph.create(NODES, EDGES, models(fisher))


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
    return Graph.create(draw(st.permutations(nodes)), edges)
