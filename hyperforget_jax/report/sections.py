"""The sections of a report, each as HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperforget_jax.report import figures
from hyperforget_jax.report.columns import (
    Column,
    Row,
    columns_of,
    factors,
    flat,
    is_cut_short,
    method_rank,
    rank,
    reference,
)
from hyperforget_jax.report.page import escape, fact_table, figure, swatch, table
from hyperforget_jax.report.schema import PHASES, REFERENCES

__all__ = [
    "access_table",
    "definitions",
    "loss_histograms",
    "main_table",
    "per_class",
    "provenance",
    "summary",
    "trade_off",
]

_SECONDS = (
    "The time of one request, without compilation. Below it, what was spent once, "
    "beforehand."
)
_ROLES = {
    "original": "before forgetting",
    "retrain": "the oracle",
    "ceiling": "oracle against oracles",
}
_READS = {
    "retain": "the training rows to be kept",
    "forget": "the training rows to be forgotten",
    "classes": "which classes to forget, and no examples",
    "probe": "held-out rows, of no use for testing afterwards",
}


def summary(groups: Mapping[str, Sequence[Row]]) -> str:
    """The first paragraph: what was asked, and against what the methods are read.

    Args:
        groups: rows by their subject.
    """
    rows = [row for group in groups.values() for row in group]
    methods = dict.fromkeys(
        row["method"] for row in rows if row["method"] not in REFERENCES
    )
    first = rows[0]
    what = (
        f"The request to forget: {first['request']}. The model: {first['model']}. The "
        f"data: {first['dataset']}."
        if len(groups) == 1
        else f"There were {len(groups)} requests to forget."
    )
    seeds = min(row["n"] for row in rows if row["method"] == "retrain")
    count = f"{len(methods)} method" + "s" * (len(methods) != 1)
    text = (
        f"This page shows what {count} left behind. {what} Each "
        "method is read against three references: the original model, which forgot "
        "nothing; models retrained without the forgotten data, which never saw it "
        "and are the target; and the ceiling, retrained models compared with each "
        f"other, the best that can be hoped for. Retraining was done with {seeds} "
        f"training seed{'s' * (seeds != 1)}. A method is good if its whole line is "
        "like retraining's, and no single number shows that."
    )
    notice = ""
    if seeds < 5:
        notice = (
            '\n<p class="notice">A smoke run: with fewer than five training seeds of '
            "the retrained model, these numbers mean nothing.</p>"
        )
    return f"<p>{escape(text)}</p>{notice}"


def definitions(rows: Sequence[Row]) -> str:
    """What every column of these rows means, and its target."""
    said = {
        "0": "Target: 0.",
        "retrain": "Target: retraining’s value.",
        "ceiling": "Target: the ceiling’s value.",
    }
    lines = [
        f"<div><dt>{escape(_heading(column))}</dt>\n<dd>{escape(column.meaning)} "
        f'<span class="target">{said[column.target]}</span></dd></div>'
        for column in columns_of(rows)
    ]
    lines.append(
        f"<div><dt>Seconds</dt>\n<dd>{_SECONDS} "
        '<span class="target">Target: less than retraining’s.</span></dd></div>'
    )
    return "\n".join(["<dl>", *lines, "</dl>"])


def main_table(subject: str, group: Sequence[Row]) -> str:
    """Every method beside the references, for the rows of one subject."""
    columns = columns_of(group)
    heads = ['<th scope="col">Method</th>']
    for column in columns:
        heads.append(
            f'<th scope="col">{escape(_heading(column))}'
            f'<span class="target">{_target(column, group)}</span></th>'
        )
    retrain = reference(group, "retrain")["seconds"]["unlearn"]
    heads.append(
        f'<th scope="col">Seconds<span class="target">retrain {retrain:.3g}</span></th>'
    )
    ordered = sorted(group, key=rank)
    references = [row for row in ordered if row["method"] in REFERENCES]
    others = [row for row in ordered if row["method"] not in REFERENCES]
    bodies = []
    for kind, body in (("references", references), ("methods", others)):
        if body:
            lines = "\n".join(_main_row(row, columns) for row in body)
            bodies.append(f'<tbody class="{kind}">\n{lines}\n</tbody>')
    counts = " or ".join(str(count) for count in sorted({row["n"] for row in group}))
    over = " and ".join(sorted({row["over"].replace("_", " ") + "s" for row in group}))
    caption = (
        f"{subject}. Mean ± sample standard deviation over the {over} (n = {counts}), "
        "and below it the worst. The target is below each heading."
    )
    hint = '<p class="hint">On a narrow screen, this table scrolls sideways.</p>\n'
    return hint + table("numbers", heads, bodies, caption, subject)


def _main_row(row: Row, columns: Sequence[Column]) -> str:
    small = [_ROLES[row["method"]]] if row["method"] in _ROLES else []
    small += factors(row)
    name = escape(row["method"]) + "".join(
        f"<small>{escape(text)}</small>" for text in small
    )
    cells = [_cell(row["metrics"], column) for column in columns]
    seconds = f"{row['seconds']['unlearn']:.3g}"
    if row["seconds"]["init"]:
        seconds += f"<small>init {row['seconds']['init']:.3g}</small>"
    inside = "".join(f"<td>{cell}</td>" for cell in [*cells, seconds])
    return f'<tr><th scope="row">{name}</th>{inside}</tr>'


def _heading(column: Column) -> str:
    return column.heading[0].upper() + column.heading[1:]


def _cell(metrics: Mapping[str, Any], column: Column) -> str:
    if column.metric not in metrics:
        return "–"
    metric, digits = metrics[column.metric], column.digits
    text = f"{metric['mean']:.{digits}f}"
    if is_cut_short(metrics, column):
        text = f"≥ {text}"
    if len(metric["values"]) == 1:
        return text  # One value has neither spread nor worst.
    text += f' <span class="spread">± {metric["std"]:.{digits}f}</span>'
    if column.worst:
        text += f"<small><b>worst</b> {metric[column.worst]:.{digits}f}</small>"
    return text


def _target(column: Column, group: Sequence[Row]) -> str:
    if column.target == "0":
        return "target 0"
    metric = reference(group, column.target)["metrics"].get(column.metric)
    if metric is None:
        return f"{column.target}’s"
    return f"{column.target} {metric['mean']:.{column.digits}f}"


def trade_off(group: Sequence[Row], number: int) -> str:
    """Forget against retain accuracy; nothing where the rows have no such metrics."""
    y_name = "retain_accuracy_test"
    split = "test"
    if not any("forget_accuracy_test" in row["metrics"] for row in group):
        split = "train"  # Rows drawn from every class leave no test split to forget.
    x_name = f"forget_accuracy_{split}"
    # The ceiling's accuracies are retraining's own.
    shown = [
        row
        for row in sorted(group, key=rank)
        if row["method"] != "ceiling" and {x_name, y_name} <= set(row["metrics"])
    ]
    if not shown:
        return ""
    names = [row["method"] for row in shown]
    points = []
    for row in shown:
        label = row["method"]
        if names.count(label) > 1:
            label = " ".join([label, *factors(row)])
        x, y = row["metrics"][x_name], row["metrics"][y_name]
        points.append(
            figures.Point(
                label,
                (x["mean"], x["std"]),
                (y["mean"], y["std"]),
                row["method"] in REFERENCES,
            )
        )
    description = "Forget and retain accuracy: " + "; ".join(
        f"{point.label} {point.x[0]:.3f} and {point.y[0]:.3f}" for point in points
    )
    drawing = figures.trade_off(
        points,
        id=f"trade-off-{number}",
        description=description,
        x_label=f"forget accuracy, {split}  (less is forgotten more)"
        if split == "test"
        else "forget accuracy, train  (target: retrain's)",
        y_label="retain accuracy, test",
    )
    return figure(
        "single",
        [drawing],
        "<b>Forgetting against keeping.</b> Mean and standard deviation over seeds. "
        "Open diamonds are the references; the dashed lines meet at retraining, which "
        "is the target. The upright axis does not begin at zero.",
    )


def per_class(
    accuracies: Mapping[str, np.ndarray], forgotten: Sequence[int] | None
) -> str:
    """A panel for every method but the original, which is drawn in all of them.

    Args:
        accuracies: method to accuracies on the test split, ``[seeds, C]``.
        forgotten: the classes to shade; by default those which no retrained model
            ever answers and the original sometimes does.
    """
    before = accuracies.get("original")
    if forgotten is None:
        forgotten = _never_answered(accuracies)
    drawings = []
    for number, name in enumerate(sorted(accuracies, key=method_rank)):
        if name == "original" and len(accuracies) > 1:
            continue
        after = accuracies[name]
        means = ", ".join(f"{value:.2f}" for value in after.mean(axis=0))
        drawings.append(
            figures.per_class(
                None if name == "original" else before,
                after,
                forgotten=forgotten,
                id=f"class-{number}",
                description=f"{name}: accuracy by class: {means}",
                title=name,
            )
        )
    marked = ""
    if forgotten:
        word = "class is" if len(forgotten) == 1 else "classes are"
        marked = f" The forgotten {word} shaded, with a bold label."
    legend = swatch("none", "var(--muted)", "original (before)") + ", "
    legend = "" if before is None else legend
    return figure(
        "panels",
        drawings,
        f"<b>Accuracy on the test split, class by class.</b> {legend}"
        f"{swatch('var(--second)', 'var(--second)', 'the method (after)')}. Thin "
        f"lines: standard deviation over seeds, where there is room.{marked}",
    )


def _never_answered(accuracies: Mapping[str, np.ndarray]) -> list[int]:
    """The classes that retraining never answers and the original sometimes does."""
    if "retrain" not in accuracies or "original" not in accuracies:
        return []
    never = np.all(accuracies["retrain"] == 0, axis=0)
    return np.flatnonzero(never & np.any(accuracies["original"] > 0, axis=0)).tolist()


def loss_histograms(losses: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """A panel for every method, on one axis.

    Args:
        losses: method to ``{"forget": [F], "test": [T]}``, in nats.
    """
    axis = figures.loss_axis([v for halves in losses.values() for v in halves.values()])
    drawings, beyond = [], []
    for number, name in enumerate(sorted(losses, key=method_rank)):
        forget, test = losses[name]["forget"], losses[name]["test"]
        drawings.append(
            figures.losses(
                forget,
                test,
                axis,
                id=f"loss-{number}",
                description=f"{name}: median loss {np.median(forget):.3g} on forgotten "
                f"training rows and {np.median(test):.3g} on test rows",
                title=name,
            )
        )
        share = float(np.mean(np.concatenate([forget, test]) >= 10.0**axis.high))
        if share > 0:
            beyond.append(f"{escape(name)} ({100 * share:.0f} %)")
    high = f"{10.0**axis.high:g}"
    filled = swatch("var(--first)", "transparent", "forgotten training rows", " faint")
    clipped = f" The last bar holds every loss from {high} nats up"
    clipped += f": {', '.join(beyond)}." if beyond else ", and none is there."
    return figure(
        "panels",
        drawings,
        "<b>Losses, on a logarithmic axis in nats.</b> "
        f"{filled}, "
        f"{swatch('none', 'var(--second)', 'test rows of the same kind')}. Where the "
        "two differ, an attacker can tell who was in the training data. Heights are "
        f"shares, each panel scaled to its tallest bar.{clipped} The first holds those "
        f"below 10<sup>{axis.low}</sup>.",
    )


def access_table(rows: Sequence[Row]) -> str:
    """What each method reads, phase by phase."""
    lines: dict[str, None] = {}
    words: set[str] = set()
    for row in sorted(rows, key=rank):
        cells = []
        for phase in PHASES:
            reads = row["access"][phase]
            words.update(reads)
            cells.append(f"<td>{escape(', '.join(reads) or 'nothing')}</td>")
        lines[
            f'<tr><th scope="row">{escape(row["method"])}</th>{"".join(cells)}</tr>'
        ] = None
    heads = [
        f'<th scope="col">{head}</th>'
        for head in ("Method", "Before", "At init", "At unlearn")
    ]
    meanings = [f"{word}: {_READS[word]}" for word in _READS if word in words]
    caption = "Before: to make what the method is built on. " + "; ".join(meanings)
    body = "<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    return table("plain access", heads, [body], f"{caption}.", "What each method reads")


def provenance(document: Mapping[str, Any]) -> str:
    """What was run, on what, and with which settings."""
    changes = {True: ", with changes that were not committed", False: ""}
    dirty = changes.get(document["dirty"], ", changes unknown")
    facts = {
        "Command": f"<code>{escape(document['command'])}</code>",
        "Preset": escape(document["preset"]),
        "Commit": f"<code>{escape(document['commit'])}</code>{dirty}",
        "Device": escape(document["device"]),
        "Seconds in all": f"{document['seconds']:.1f}",
        "Versions": escape(
            ", ".join(f"{name} {v}" for name, v in document["versions"].items())
        ),
    }
    config = {name: escape(value) for name, value in flat(document["config"])}
    tables = [fact_table(facts, "The run", "What was run, and on what.")]
    if config:
        tables.append(fact_table(config, "Setting", "Its configuration."))
    return "\n".join(tables)
