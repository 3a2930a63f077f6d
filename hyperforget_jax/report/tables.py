"""The table for a terminal of 80 columns: methods beside what they are read against."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.markup
import rich.table

from hyperforget_jax.report import columns
from hyperforget_jax.report.schema import SUBJECT, by_subject, check_references

__all__ = ["table"]

_SHOWN = {"retain_accuracy_test", "mia_auc", "js_to_oracle", "tow", "relearn_steps"}
_MOST_DIGITS = 3  # A terminal is narrow.


def table(
    rows: Sequence[Mapping[str, Any]], *, min_seeds: int = 5, references: bool = True
) -> rich.table.Table:
    """Show result rows: mean ± sample sd over seeds, the worst in parentheses.

    Args:
        rows: of a results document. References come first, ``ablation/`` rows last.
        min_seeds: the fewest training seeds of the row ``retrain``. Lower it for a
            smoke run alone, whose numbers mean nothing.
        references: whether every request must come with its reference rows.

    Raises:
        ValueError: for some request the original, retraining (with enough seeds) or
            the ceiling is missing: without them no number can be read.
    """
    if references:
        check_references(rows, min_seeds)
    # Rows drawn from every class leave nothing of the test split to forget.
    in_test = {"forget_accuracy_test" in row["metrics"] for row in rows}
    names = _SHOWN | {
        f"forget_accuracy_{'test' if each else 'train'}" for each in in_test
    }
    shown = [column for column in columns.COLUMNS if column.metric in names]
    forget = "0 on test, retrain's on train" if True in in_test else "retrain's"
    result = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 1, 0),
        caption_justify="left",
        caption=f"Forget accuracy: target {forget}. Retain accuracy, MIA AUC and "
        "relearning steps: target retrain's. JS to retrained (nats) and ToW (at most "
        "1): target the ceiling's. ≥: relearning was cut short. Seconds: per request, "
        "without compilation. Mean ± sample standard deviation over seeds, the worst "
        "in parentheses. Rows of ablation/ check the comparison and are no methods.",
    )
    # A heading has a line a word: what is too long for a screen is a method's name.
    result.add_column("Method", overflow="fold")
    for column in shown:
        # The caption says to what.
        heading = re.sub(",? ", "\n", column.heading.removesuffix(" to retrained"))
        worst = f"\n({column.worst})" if column.worst else ""
        result.add_column(heading + worst, justify="right", no_wrap=True)
    result.add_column("Seconds", justify="right", no_wrap=True)
    groups = by_subject(rows).values()
    told_apart = [key for key in SUBJECT if len({row[key] for row in rows}) > 1]
    for group in groups:
        if len(groups) > 1:
            subject = " / ".join(group[0][key] for key in told_apart)
            result.add_row(f"[bold]{rich.markup.escape(subject)}[/bold]")
        for part in columns.sorted_rows(group):
            for row in part:
                cells = [row["method"], *(_cell(row, column) for column in shown)]
                seconds = row["seconds"]
                cells.append(f"{seconds['unlearn']:.2g}" if seconds else "–")
                result.add_row(*map(rich.markup.escape, cells))
            result.add_section()
    return result


def _cell(row: columns.Row, column: columns.Column) -> str:
    metric = row["metrics"].get(column.metric)
    if metric is None:
        return "–"
    digits = min(column.digits, _MOST_DIGITS)
    text = f"{metric['mean']:.{digits}f}"
    if column.metric == "relearn_steps" and columns.is_cut_short(row):
        text = f"≥ {text}"
    if len(metric["values"]) == 1:
        return text
    text += f"\n±{metric['std']:.{digits}f}"
    return f"{text}\n({metric[column.worst]:.{digits}f})" if column.worst else text
