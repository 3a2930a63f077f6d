"""The one table: every method beside what its numbers are read against."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.markup
import rich.table

from hyperforget_jax.evaluation.schema import check_references

__all__ = ["table"]

# Metric, heading, the worst of the values, and digits after the point.
_Column = tuple[str, str, str | None, int]
_FORGET_TEST: _Column = ("forget_accuracy_test", "forget accuracy, test", "max", 3)
_FORGET_TRAIN: _Column = ("forget_accuracy_train", "forget accuracy, train", "max", 3)
_OTHERS: tuple[_Column, ...] = (
    ("retain_accuracy_test", "retain accuracy, test", "min", 3),
    ("mia_auc", "MIA AUC", None, 3),
    ("js_to_oracle", "JS to oracle", "max", 3),
    ("tow", "ToW", "min", 3),
    ("relearn_steps", "relearn steps", "min", 1),
)


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
    columns = [_FORGET_TEST] * any(in_test) + [_FORGET_TRAIN] * (not all(in_test))
    columns.extend(_OTHERS)
    has_requests = len({_subject(row) for row in rows}) > 1

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
    for _, heading, worst, _ in columns:
        result.add_column(heading + (f" ({worst})" if worst else ""), justify="right")
    result.add_column("seconds", justify="right")
    for row in rows:
        cells = [row["method"], *(_cell(row["metrics"], *column) for column in columns)]
        if has_requests:
            cells.insert(0, _subject(row))
        seconds = f"{row['seconds']['unlearn']:.2g}"
        result.add_row(*(rich.markup.escape(cell) for cell in cells), seconds)
    return result


def _subject(row: Mapping[str, Any]) -> str:
    return " / ".join(row[key] for key in ("dataset", "model", "scenario", "request"))


def _cell(
    metrics: Mapping[str, Any], name: str, heading: str, worst: str | None, digits: int
) -> str:
    del heading  # Part of the column's record, not of its cells.
    if name not in metrics:
        return "–"
    metric = metrics[name]
    text = f"{metric['mean']:.{digits}f}\n±{metric['std']:.{digits}f}"
    censored = metrics.get("relearn_censored")
    if name == "relearn_steps" and censored is not None and censored["max"] > 0:
        text = f"≥ {text}"  # The cap cut some of them short.
    return f"{text}\n({metric[worst]:.{digits}f})" if worst else text


def _caption(has_forget_test: bool) -> str:
    forget = "0 on test, retrain's on train" if has_forget_test else "retrain's"
    return (
        f"Forget accuracy: target {forget}. Retain accuracy, MIA AUC and relearning "
        "steps: target retrain's. JS to oracle (nats) and ToW (at most 1): target the "
        "ceiling's. ≥: relearning was cut short. Seconds: per request, without "
        "compilation. Mean ± sample standard deviation over seeds, the worst in "
        "parentheses."
    )
