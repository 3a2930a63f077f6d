"""Cells and tables of Markdown, and where results lie."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import hyperforget_jax as hf

RESULTS = Path(__file__).resolve().parents[1] / "results"


@functools.cache
def rows_of(record: str) -> list[dict]:
    """The rows of a record, ``<experiment>-<preset>``, read once."""
    return hf.report.read(RESULTS / f"{record}.json", references=False)["rows"]


def spread(values: np.ndarray, digits: int) -> str:
    """Mean and standard deviation over seeds of values ``[requests, seeds]``."""
    if not values.size:
        return "–"
    by_seed = values.mean(axis=0)
    return f"{values.mean():z.{digits}f} ± {by_seed.std(ddof=1):.{digits}f}"


def of_requests(metrics: Sequence[dict], name: str) -> np.ndarray:
    """A metric of several requests, ``[requests, seeds]``; empty if one has it not."""
    if any(name not in one for one in metrics):
        return np.empty((0, 0))
    return np.array([one[name]["values"] for one in metrics])


def with_worst(values: np.ndarray, worst: Callable, digits: int) -> str:
    """Mean and spread over seeds, and the worst request by its mean over seeds."""
    if not values.size:
        return "–"
    of_request = values.mean(axis=1)
    return f"{spread(values, digits)} ({worst(of_request):z.{digits}f})"


def relearning(metrics: Sequence[dict], worst: Callable | None = None) -> str:
    """Relearning steps; "≥" where some run was cut short before it was there."""
    steps = of_requests(metrics, "relearn_steps")
    if not steps.size:
        return "–"
    cut = any(one["relearn_censored"]["max"] > 0 for one in metrics)
    cell = spread(steps, 1) if worst is None else with_worst(steps, worst, 1)
    return f"≥ {cell}" if cut else cell


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
