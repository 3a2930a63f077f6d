"""Records as frames, and frames as tables in Markdown."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import hyperforget_jax as hf

RESULTS = Path(__file__).resolve().parents[1] / "results"

Cell = Callable[[pd.DataFrame], str]


@functools.cache
def rows_of(record: str) -> list[dict]:
    """Read the rows of a record, ``<experiment>-<preset>``, once."""
    return hf.report.read(RESULTS / f"{record}.json", references=False)["rows"]


@functools.cache
def frame(*records: str) -> pd.DataFrame:
    """Lay out records with a line a row and seed, and a column a factor and metric.

    Records that are not there are left out.
    """
    lines: list[dict[str, Any]] = []
    for record in records:
        if not (RESULTS / f"{record}.json").exists():
            continue
        for row in rows_of(record):
            names = ("scenario", "method", "request", "dataset")
            about = {name: row[name] for name in names}
            about |= {**(row["factors"] or {}), "model": row["model"]}
            metrics = {name: one["values"] for name, one in row["metrics"].items()}
            lines += [
                about | {"seed": seed} | dict(zip(metrics, values, strict=True))
                for seed, values in enumerate(zip(*metrics.values(), strict=True))
            ]
    return pd.DataFrame(lines)


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    return "".join(
        f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *lines)
    )


def grouped(
    data: pd.DataFrame,
    by: str | list[str],
    *columns: tuple[str, Cell],
    order: Iterable[Any] | None = None,
) -> str:
    """Write a table with a line a group, in the order that they first come in.

    Args:
        data: from :func:`frame`.
        by: what lines are grouped by.
        columns: heads, and what makes a cell of a group.
        order: the groups wanted, as far as they are there; None for all.
    """
    groups = dict(iter(data.groupby(by, sort=False, dropna=False)))
    wanted = groups if order is None else [one for one in order if one in groups]
    return table(
        [head for head, _ in columns],
        [[cell(groups[one]) for _, cell in columns] for one in wanted],
    )


def value(name: str, form: str = "{}") -> Cell:
    """Show what all lines of a group have in common."""
    return lambda of: form.format(of[name].iloc[0])


METHOD = "method", value("method", "`{}`")


def mean(name: str, digits: int, how: str = "mean", scale: float = 1) -> Cell:
    """Show the mean, or another figure, of all lines."""
    return lambda of: f"{scale * of[name].agg(how):.{digits}f}"


def spread(name: str, digits: int, worst: str = "", scale: float = 1) -> Cell:
    """Show the mean and the standard deviation over seeds of means over requests.

    With the ``worst`` request by its mean over seeds, if ``"min"`` or ``"max"``. A
    metric that some request does not have is none.
    """

    def cell(of: pd.DataFrame) -> str:
        if name not in of or of[name].isna().any():
            return "–"
        values = scale * of[name]
        by_seed = values.groupby(of["seed"]).mean()
        text = f"{values.mean():z.{digits}f} ± {by_seed.std():.{digits}f}"
        if worst:
            found = values.groupby(of["request"]).mean().agg(worst)
            text += f" ({found:z.{digits}f})"
        return text

    return cell


def less_retrained(data: pd.DataFrame, name: str, *, paired: bool = False) -> pd.Series:
    """Subtract what retraining reaches at the same request, and say it in points.

    What it reaches is the mean over seeds, or that of the same seed if ``paired``.
    """
    keys = ["request", "seed"] if paired else ["request"]
    retrained = data[data["method"] == "retrain"].groupby(keys)[name].mean()
    return 100 * (data[name] - data[keys].join(retrained, on=keys)[name])


def relearning(worst: str = "") -> Cell:
    """Show relearning steps; "≥" where some run was cut short before it was there."""
    steps = spread("relearn_steps", 1, worst)

    def cell(of: pd.DataFrame) -> str:
        text = steps(of)
        cut = text != "–" and of["relearn_censored"].max() > 0
        return f"≥ {text}" if cut else text

    return cell


def median(name: str, form: str, scale: float = 1) -> Cell:
    """Show the median of all lines."""
    return lambda of: form.format(scale * of[name].median())


def ratios(name: str) -> Cell:
    """Show the median of repeated ratios, and their range."""

    def cell(of: pd.DataFrame) -> str:
        values = of[name].dropna()
        if values.empty:
            return "–"
        return f"{values.median():,.1f} ({values.min():,.1f} to {values.max():,.1f})"

    return cell
