"""What the tuning scripts share: grids, their points by number, and what is recorded.

A script measures every point, puts the best first, says which one is chosen, and writes
one row a point. ``--points`` measures some of a grid again.
"""

import functools
import itertools
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import hyperforget_jax as hf

Grid = Mapping[str, tuple]


class Point(NamedTuple):
    """A point of a grid and what was measured there.

    Attributes:
        hyper: hyper-parameters by name.
        metrics: by name, one number a seed.
        factors: what else its row says.
    """

    hyper: dict[str, Any]
    metrics: dict[str, np.ndarray]
    factors: dict[str, Any] = {}


def points(grid: Grid, chosen: Collection[int] = ()) -> list[dict[str, Any]]:
    """List a grid's points, the last name varying fastest; only those of a number in
    ``chosen`` if there are any."""
    found = [
        dict(zip(grid, values, strict=True))
        for values in itertools.product(*grid.values())
    ]
    return [found[number] for number in chosen] if chosen else found


def measure(
    evaluate: Callable[..., Any],
    points: Iterable[dict[str, Any]],
    *arguments: Any,
    static: Collection[str] = (),
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield every point with ``evaluate(hyper, *arguments)``, as NumPy arrays.

    Points of the same names that share the values named by ``static`` share a program,
    which answers them one after the other; the other values are traced.
    """
    alike: dict[tuple, list[dict[str, Any]]] = {}
    for point in points:
        fixed = tuple((name, point[name]) for name in point if name in static)
        alike.setdefault((fixed, tuple(point)), []).append(point)

    @functools.partial(jax.jit, static_argnums=0)
    def run(fixed, numbered, *arguments):
        return jax.lax.map(
            lambda at: evaluate(at[1] | dict(fixed), *arguments), numbered
        )

    for (fixed, names), those in alike.items():
        traced = [name for name in names if name not in static]
        values = {name: jnp.asarray([each[name] for each in those]) for name in traced}
        numbered = jnp.arange(len(those)), values  # A point may have no values at all.
        found = jax.tree.map(np.asarray, run(fixed, numbered, *arguments))
        for place, point in enumerate(those):
            yield point, jax.tree.map(lambda leaf, at=place: leaf[at], found)


def rows(
    method: str,
    ranked: Sequence[Point],
    is_chosen: Callable[[int], bool],
    **about: Any,
) -> list[dict[str, Any]]:
    """Make one row a point, the best first.

    Args:
        method: that was tuned.
        ranked: its points, the best first.
        is_chosen: whether the point of a place is the default.
        about: what :func:`hyperforget_jax.report.results_row` takes besides.
    """
    return [
        hf.report.results_row(
            method,
            by_seed(point.metrics),
            factors={
                **point.hyper,
                **point.factors,
                "place": place,
                "chosen": is_chosen(place),
            },
            seconds={"init": 0.0, "unlearn": 0.0, "compile": 0.0},
            **about,
        )
        for place, point in enumerate(ranked)
    ]


def by_seed(metrics: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """Turn arrays by name, ``[seeds]``, into a dictionary a seed."""
    seeds = len(next(iter(metrics.values())))
    return [
        {name: float(values[seed]) for name, values in metrics.items()}
        for seed in range(seeds)
    ]


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """Show the best points and the chosen ones, with the means of some metrics."""
    shown = Table("method", "place", "hyper-parameters", *names)
    for row in rows:
        factors = dict(row["factors"])
        place, chosen = factors.pop("place"), factors.pop("chosen")
        if place < 3 or chosen:
            shown.add_row(
                row["method"],
                f"{place}{' (chosen)' if chosen else ''}",
                ", ".join(f"{name}={value}" for name, value in factors.items()),
                *(f"{row['metrics'][name]['mean']:.4f}" for name in names),
            )
    return shown
