"""The one table: every method beside what its numbers are read against."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.markup
import rich.table

from hyperforget_jax.report.columns import COLUMNS, Column, is_cut_short, subject_of
from hyperforget_jax.report.schema import check_references

__all__ = ["table"]

_ALWAYS = {"retain_accuracy_test", "mia_auc", "js_to_oracle", "tow", "relearn_steps"}
_MOST_DIGITS = 3  # A terminal is narrow.


def table(rows: Sequence[Mapping[str, Any]], *, min_seeds: int = 5) -> rich.table.Table:
    """Result rows as a table: mean ± sample sd over seeds, the worst in parentheses.

    Args:
        rows: of a results document, shown in their order.
        min_seeds: the fewest training seeds of the retrained oracle. Lower it for a
            smoke run alone, whose numbers mean nothing.

    Raises:
        ValueError: for some request the original, the retrained oracle (with enough
            seeds) or the ceiling is missing: without them no number can be read.
    """
    check_references(rows, min_seeds)
    # Rows drawn from every class leave nothing of the test split to forget.
    in_test = ["forget_accuracy_test" in row["metrics"] for row in rows]
    names = set(_ALWAYS)
    if any(in_test):
        names.add("forget_accuracy_test")
    if not all(in_test):
        names.add("forget_accuracy_train")
    columns = [column for column in COLUMNS if column.metric in names]
    has_requests = len({subject_of(row) for row in rows}) > 1

    result = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 1, 0),
        caption=_caption(any(in_test)),
        caption_justify="left",
    )
    if has_requests:
        result.add_column("request")
    result.add_column("method", no_wrap=True)
    for column in columns:
        worst = f" ({column.worst})" if column.worst else ""
        result.add_column(column.heading + worst, justify="right")
    result.add_column("seconds", justify="right")
    for row in rows:
        cells = [row["method"], *(_cell(row["metrics"], column) for column in columns)]
        if has_requests:
            cells.insert(0, subject_of(row))
        seconds = f"{row['seconds']['unlearn']:.2g}"
        result.add_row(*(rich.markup.escape(cell) for cell in cells), seconds)
    return result


def _cell(metrics: Mapping[str, Any], column: Column) -> str:
    if column.metric not in metrics:
        return "–"
    metric, digits = metrics[column.metric], min(column.digits, _MOST_DIGITS)
    text = f"{metric['mean']:.{digits}f}\n±{metric['std']:.{digits}f}"
    if is_cut_short(metrics, column):
        text = f"≥ {text}"
    return f"{text}\n({metric[column.worst]:.{digits}f})" if column.worst else text


def _caption(has_forget_test: bool) -> str:
    forget = "0 on test, retrain's on train" if has_forget_test else "retrain's"
    return (
        f"Forget accuracy: target {forget}. Retain accuracy, MIA AUC and relearning "
        "steps: target retrain's. JS to oracle (nats) and ToW (at most 1): target the "
        "ceiling's. ≥: relearning was cut short. Seconds: per request, without "
        "compilation. Mean ± sample standard deviation over seeds, the worst in "
        "parentheses."
    )
