"""The report: one page that shows what the methods forgot, and how to read it.

The page is a single file that needs neither network nor JavaScript.
"""

import html
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hyperforget_jax.base import Array
from hyperforget_jax.evaluation import figures
from hyperforget_jax.evaluation.schema import PHASES, REFERENCES, check_references

__all__ = ["write_report"]

Row = Mapping[str, Any]


class _Column(NamedTuple):
    """A column of the main table: where its numbers are, and how they are read."""

    metric: str
    heading: str
    digits: int
    worst: str | None
    target: str
    meaning: str


_COLUMNS = (
    _Column(
        "forget_accuracy_test",
        "Forget accuracy, test",
        3,
        "max",
        "0",
        "The share of unseen examples of the forgotten kind that are still answered "
        "right. Never read it alone: a model that only hides an answer also scores 0.",
    ),
    _Column(
        "forget_accuracy_train",
        "Forget accuracy, train",
        3,
        "max",
        "retrain",
        "The same on the forgotten training rows themselves.",
    ),
    _Column(
        "retain_accuracy_test",
        "Retain accuracy, test",
        3,
        "min",
        "retrain",
        "The share of all other unseen examples that is answered right.",
    ),
    _Column(
        "retain_accuracy_train",
        "Retain accuracy, train",
        3,
        "min",
        "retrain",
        "The same on the training rows that were kept.",
    ),
    _Column(
        "mia_auc",
        "MIA AUC",
        3,
        None,
        "retrain",
        "Membership inference: how well the loss tells forgotten training rows from "
        "rows that were never trained on. 0.5 is guessing; far below it, the losses "
        "are suspiciously high.",
    ),
    _Column(
        "js_to_oracle",
        "JS to oracle",
        4,
        "max",
        "ceiling",
        "Jensen–Shannon divergence from the retrained models' answers on the forgotten "
        "training rows, in nats: 0 is equal, 0.693 the most there is.",
    ),
    _Column(
        "l2_to_oracle",
        "L2 to oracle",
        3,
        "max",
        "ceiling",
        "Mean Euclidean distance between the same answers, at most 1.414.",
    ),
    _Column(
        "tow",
        "ToW",
        3,
        "min",
        "ceiling",
        "Tug of war: forget and retain accuracies against retraining's, in one number. "
        "1 is as good as retraining.",
    ),
    _Column(
        "relearn_steps",
        "Relearn steps",
        1,
        "min",
        "retrain",
        "Training steps on the forgotten rows until the model knows them again. Few "
        "steps: they were hidden, not forgotten. ≥: some runs were cut short before "
        "that, and the true number is larger.",
    ),
)
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

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #17191c; --muted: #5c6570;
  --line: #d5dade; --shade: #eef1f4; --first: #c44e00; --second: #0068a8;
  --notice: #fff3d6; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e7eaed; --muted: #a3adb8; --line: #3b434b;
    --shade: #232930; --first: #ff9552; --second: #62b5f0; --notice: #3d3113; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; overflow-wrap: break-word; }
main { max-width: 74rem; margin: 0 auto; padding: 1rem 1rem 3rem; }
a { color: var(--second); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 0.5rem; }
p, figcaption { max-width: 44rem; }
dl { columns: 24rem; column-gap: 2.5rem; margin: 0; }
dl div { break-inside: avoid; padding-bottom: 0.6rem; }
.notice { background: var(--notice); padding: 0.6rem 0.8rem; border-radius: 4px; }
dt { font-weight: 600; }
dd { margin: 0; }
.target { color: var(--muted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--muted);
  padding-top: 0.5rem; }
caption span { position: sticky; left: 0; display: inline-block;
  max-width: min(44rem, calc(100vw - 2rem)); }
th, td { padding: 0.4rem 0.45rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--ink); }
thead .target, tbody th small, td small { display: block; font-weight: normal;
  font-size: 0.75rem; color: var(--muted); }
th[scope=row] { position: sticky; left: 0; background: var(--paper); }
tbody.references :is(th, td) { background: var(--shade); }
tbody.references tr:last-child :is(th, td) { border-bottom: 2px solid var(--ink); }
.numbers td, .numbers thead th + th { text-align: right; }
td small b { font-weight: normal; }
.numbers td { white-space: nowrap; }
.numbers th { min-width: 4.8rem; }
.numbers { font-size: 0.8125rem; }
.numbers :is(th, td) { padding: 0.35rem 0.3rem; }
.hint { color: var(--muted); font-size: 0.875rem; margin: 0.5rem 0; }
@media (min-width: 72rem) { .hint { display: none; } }
.plain th { font-weight: 600; }
.plain td { overflow-wrap: anywhere; min-width: 7rem; }
.access td { min-width: 4.5rem; overflow-wrap: normal; }
code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.875em;
  overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figcaption { font-size: 0.9375rem; color: var(--muted); margin-bottom: 0.75rem; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; stroke-linejoin: round; }
svg text { font-family: inherit; }
.single svg { max-width: 36rem; }
.single svg text { paint-order: stroke; stroke: var(--paper); stroke-width: 2.5px; }
.panels div { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.panels svg { max-width: 27rem; }
.swatch { display: inline-block; width: 1.1em; height: 0.8em; margin-right: 0.3em;
  border: 2px solid; }
.faint { opacity: 0.55; }
@media print {
  @page { margin: 12mm; }
  html { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  table, .numbers { font-size: 7pt; }
  .hint, td small b, p a { display: none; }
  th, td { padding: 2pt 3pt; }
  thead .target, tbody th small, td small { font-size: 6.5pt; }
  .numbers td { white-space: normal; }
  .numbers th { min-width: 0; }
  .numbers .spread { display: block; white-space: nowrap; }
  th[scope=row], caption span { position: static; max-width: none; }
  tr, svg, figcaption, .single, .plain { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  .panels div { grid-template-columns: repeat(3, 1fr); gap: 0.5rem; }
  .single svg { max-width: 11cm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def write_report(
    path: str | os.PathLike,
    document: Mapping[str, Any],
    *,
    losses: Mapping[str, Mapping[str, np.ndarray | Array]] | None = None,
    per_class: Mapping[str, np.ndarray | Array] | None = None,
    title: str = "What was forgotten, and what was kept",
    forgotten: Sequence[int] | None = None,
    request: str | None = None,
    min_seeds: int = 5,
) -> None:
    """Writes a document of results as one self-contained page, whole or not at all.

    Equal arguments give equal files.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`results_document`, valid.
        losses: method to ``{"forget": [F], "test": [T]}``: losses in nats on forgotten
            training rows, and on test rows of the same kind. Left out: no histograms.
        per_class: method to accuracies on the test split, ``[seeds, C]``. Those of
            ``original`` are drawn beside every other's. Left out: no such figure.
        title: the page's.
        forgotten: the classes that ``per_class`` shades; by default those which no
            retrained model ever answers and the original sometimes does.
        request: which request ``losses`` and ``per_class`` belong to, for a document
            of several.
        min_seeds: the fewest training seeds of the retrained oracle. Lower it for a
            smoke run alone: the page then says that its numbers mean nothing.

    Raises:
        ValueError: for some request the original, the retrained oracle (with enough
            seeds) or the ceiling is missing; arrays of the wrong shape, empty, or
            holding NaN.
    """
    rows = document["rows"]
    check_references(rows, min_seeds)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_subject(row), []).append(row)
    whose = f" of {request}" if request else " of one of the requests"
    if len(groups) == 1:
        whose = ""

    parts = [
        f"<h1>{_escape(title)}</h1>",
        _summary(groups),
        '<p><a href="#results">To the results</a></p>',
        "<h2>How to read the numbers</h2>",
        _definitions(rows),
        '<h2 id="results">Results</h2>',
    ]
    for number, (subject, group) in enumerate(groups.items()):
        if len(groups) > 1:
            parts.append(f"<h3>{_escape(subject)}</h3>")
        parts += [_main_table(subject, group), _trade_off(group, number)]
    if per_class:
        parts += [f"<h2>Accuracy class by class{_escape(whose)}</h2>"]
        parts += [_per_class(_checked_accuracies(per_class), forgotten)]
    if losses:
        parts += [f"<h2>Losses{_escape(whose)}</h2>", _losses(_checked_losses(losses))]
    parts += ["<h2>What each method reads, and when</h2>", _access_table(rows)]
    parts += ["<h2>Where this page comes from</h2>", _provenance(document)]
    _write_whole(pathlib.Path(path), _page(title, parts))


def _page(title: str, parts: Iterable[str]) -> str:
    # The policy makes browsers hold what the first paragraph of this module promises.
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *parts,
            "</main>",
            "</body>",
            "</html>\n",
        ]
    )


def _summary(groups: Mapping[str, Sequence[Row]]) -> str:
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
    return f"<p>{_escape(text)}</p>{notice}"


def _definitions(rows: Sequence[Row]) -> str:
    said = {
        "0": "Target: 0.",
        "retrain": "Target: retraining’s value.",
        "ceiling": "Target: the ceiling’s value.",
    }
    lines = [
        f"<div><dt>{_escape(column.heading)}</dt>\n<dd>{_escape(column.meaning)} "
        f'<span class="target">{said[column.target]}</span></dd></div>'
        for column in _columns(rows)
    ]
    lines.append(
        f"<div><dt>Seconds</dt>\n<dd>{_SECONDS} "
        '<span class="target">Target: less than retraining’s.</span></dd></div>'
    )
    return "\n".join(["<dl>", *lines, "</dl>"])


def _main_table(subject: str, group: Sequence[Row]) -> str:
    columns = _columns(group)
    heads = ['<th scope="col">Method</th>']
    for column in columns:
        heads.append(
            f'<th scope="col">{_escape(column.heading)}'
            f'<span class="target">{_target(column, group)}</span></th>'
        )
    retrain = _reference(group, "retrain")["seconds"]["unlearn"]
    heads.append(
        f'<th scope="col">Seconds<span class="target">retrain {retrain:.3g}</span></th>'
    )
    ordered = sorted(group, key=_rank)
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
    return hint + _table("numbers", heads, bodies, caption, subject)


def _main_row(row: Row, columns: Sequence[_Column]) -> str:
    small = [_ROLES[row["method"]]] if row["method"] in _ROLES else []
    small += _factors(row)
    name = _escape(row["method"]) + "".join(
        f"<small>{_escape(text)}</small>" for text in small
    )
    cells = [_cell(row["metrics"], column) for column in columns]
    seconds = f"{row['seconds']['unlearn']:.3g}"
    if row["seconds"]["init"]:
        seconds += f"<small>init {row['seconds']['init']:.3g}</small>"
    inside = "".join(f"<td>{cell}</td>" for cell in [*cells, seconds])
    return f'<tr><th scope="row">{name}</th>{inside}</tr>'


def _cell(metrics: Mapping[str, Any], column: _Column) -> str:
    if column.metric not in metrics:
        return "–"
    metric, digits = metrics[column.metric], column.digits
    text = f"{metric['mean']:.{digits}f}"
    censored = metrics.get("relearn_censored")
    if column.metric == "relearn_steps" and censored and censored["max"] > 0:
        text = f"≥ {text}"  # The cap cut some of them short.
    if len(metric["values"]) == 1:
        return text  # One value has neither spread nor worst.
    text += f' <span class="spread">± {metric["std"]:.{digits}f}</span>'
    if column.worst:
        text += f"<small><b>worst</b> {metric[column.worst]:.{digits}f}</small>"
    return text


def _target(column: _Column, group: Sequence[Row]) -> str:
    if column.target == "0":
        return "target 0"
    metric = _reference(group, column.target)["metrics"].get(column.metric)
    if metric is None:
        return f"{column.target}’s"
    return f"{column.target} {metric['mean']:.{column.digits}f}"


def _trade_off(group: Sequence[Row], number: int) -> str:
    """Forget against retain accuracy; nothing where the rows have no such metrics."""
    y_name = "retain_accuracy_test"
    split = "test"
    if not any("forget_accuracy_test" in row["metrics"] for row in group):
        split = "train"  # Rows drawn from every class leave no test split to forget.
    x_name = f"forget_accuracy_{split}"
    # The ceiling's accuracies are retraining's own.
    shown = [
        row
        for row in sorted(group, key=_rank)
        if row["method"] != "ceiling" and {x_name, y_name} <= set(row["metrics"])
    ]
    if not shown:
        return ""
    names = [row["method"] for row in shown]
    points = []
    for row in shown:
        label = row["method"]
        if names.count(label) > 1:
            label = " ".join([label, *_factors(row)])
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
    return _figure(
        "single",
        [drawing],
        "<b>Forgetting against keeping.</b> Mean and standard deviation over seeds. "
        "Open diamonds are the references; the dashed lines meet at retraining, which "
        "is the target. The upright axis does not begin at zero.",
    )


def _per_class(
    accuracies: Mapping[str, np.ndarray], forgotten: Sequence[int] | None
) -> str:
    before = accuracies.get("original")
    if forgotten is None:
        forgotten = _never_answered(accuracies)
    drawings = []
    for number, name in enumerate(sorted(accuracies, key=_reference_rank)):
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
    legend = _swatch("none", "var(--muted)", "original (before)") + ", "
    legend = "" if before is None else legend
    return _figure(
        "panels",
        drawings,
        f"<b>Accuracy on the test split, class by class.</b> {legend}"
        f"{_swatch('var(--second)', 'var(--second)', 'the method (after)')}. Thin "
        f"lines: standard deviation over seeds, where there is room.{marked}",
    )


def _never_answered(accuracies: Mapping[str, np.ndarray]) -> list[int]:
    """The classes that retraining never answers and the original sometimes does."""
    if "retrain" not in accuracies or "original" not in accuracies:
        return []
    never = np.all(accuracies["retrain"] == 0, axis=0)
    return np.flatnonzero(never & np.any(accuracies["original"] > 0, axis=0)).tolist()


def _losses(losses: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    axis = figures.loss_axis([v for halves in losses.values() for v in halves.values()])
    drawings, beyond = [], []
    for number, name in enumerate(sorted(losses, key=_reference_rank)):
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
            beyond.append(f"{_escape(name)} ({100 * share:.0f} %)")
    high = f"{10.0**axis.high:g}"
    filled = _swatch("var(--first)", "transparent", "forgotten training rows", " faint")
    clipped = f" The last bar holds every loss from {high} nats up"
    clipped += f": {', '.join(beyond)}." if beyond else ", and none is there."
    return _figure(
        "panels",
        drawings,
        "<b>Losses, on a logarithmic axis in nats.</b> "
        f"{filled}, "
        f"{_swatch('none', 'var(--second)', 'test rows of the same kind')}. Where the "
        "two differ, an attacker can tell who was in the training data. Heights are "
        f"shares, each panel scaled to its tallest bar.{clipped} The first holds those "
        f"below 10<sup>{axis.low}</sup>.",
    )


def _access_table(rows: Sequence[Row]) -> str:
    lines: dict[str, None] = {}
    words: set[str] = set()
    for row in sorted(rows, key=_rank):
        cells = []
        for phase in PHASES:
            reads = row["access"][phase]
            words.update(reads)
            cells.append(f"<td>{_escape(', '.join(reads) or 'nothing')}</td>")
        lines[
            f'<tr><th scope="row">{_escape(row["method"])}</th>{"".join(cells)}</tr>'
        ] = None
    heads = [
        f'<th scope="col">{head}</th>'
        for head in ("Method", "Before", "At init", "At unlearn")
    ]
    meanings = [f"{word}: {_READS[word]}" for word in _READS if word in words]
    caption = "Before: to make what the method is built on. " + "; ".join(meanings)
    body = "<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    return _table(
        "plain access", heads, [body], f"{caption}.", "What each method reads"
    )


def _provenance(document: Mapping[str, Any]) -> str:
    changes = {True: ", with changes that were not committed", False: ""}
    dirty = changes.get(document["dirty"], ", changes unknown")
    facts = {
        "Command": f"<code>{_escape(document['command'])}</code>",
        "Preset": _escape(document["preset"]),
        "Commit": f"<code>{_escape(document['commit'])}</code>{dirty}",
        "Device": _escape(document["device"]),
        "Seconds in all": f"{document['seconds']:.1f}",
        "Versions": _escape(
            ", ".join(f"{name} {v}" for name, v in document["versions"].items())
        ),
    }
    config = {name: _escape(value) for name, value in _flat(document["config"])}
    tables = [_fact_table(facts, "The run", "What was run, and on what.")]
    if config:
        tables.append(_fact_table(config, "Setting", "Its configuration."))
    return "\n".join(tables)


def _fact_table(facts: Mapping[str, str], head: str, caption: str) -> str:
    heads = [f'<th scope="col">{head}</th>', '<th scope="col">Value</th>']
    lines = "\n".join(
        f'<tr><th scope="row">{_escape(name)}</th><td>{value}</td></tr>'
        for name, value in facts.items()
    )
    return _table("plain", heads, [f"<tbody>\n{lines}\n</tbody>"], caption, caption)


def _table(
    kind: str,
    heads: Sequence[str],
    bodies: Sequence[str],
    caption: str,
    name: str,
) -> str:
    # It scrolls by itself, with the keyboard too, and the page stays where it is.
    return "\n".join(
        [
            f'<div class="scroll" role="region" aria-label="{_escape(name)}" '
            'tabindex="0">',
            f'<table class="{kind}">',
            f"<caption><span>{_escape(caption)}</span></caption>",
            f"<thead>\n<tr>{''.join(heads)}</tr>\n</thead>",
            *bodies,
            "</table>\n</div>",
        ]
    )


def _figure(kind: str, drawings: Sequence[str], caption: str) -> str:
    inside = "\n".join(drawings)
    return (
        f'<figure class="{kind}">\n<figcaption>{caption}</figcaption>\n'
        f"<div>\n{inside}\n</div>\n</figure>"
    )


def _swatch(fill: str, edge: str, text: str, kind: str = "") -> str:
    style = f"background: {fill}; border-color: {edge}"
    return f'<span class="swatch{kind}" style="{style}"></span>{_escape(text)}'


def _checked_accuracies(
    per_class: Mapping[str, np.ndarray | Array],
) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(values) for name, values in per_class.items()}
    num_classes = {values.shape[-1:] for values in arrays.values()}
    for name, values in arrays.items():
        good = values.ndim == 2 and values.size and len(num_classes) == 1
        if not good or not np.isfinite(values).all():
            raise ValueError(
                f"per_class[{name!r}] must be finite accuracies [seeds, C], with one C "
                f"for all methods; got shape {values.shape}."
            )
    return arrays


def _checked_losses(
    losses: Mapping[str, Mapping[str, np.ndarray | Array]],
) -> dict[str, dict[str, np.ndarray]]:
    checked: dict[str, dict[str, np.ndarray]] = {}
    for name, halves in losses.items():
        checked[name] = {}
        for half in ("forget", "test"):
            values = np.asarray(halves[half], np.float64)
            if values.ndim != 1 or not values.size or not np.all(values >= 0):
                raise ValueError(
                    f"losses[{name!r}][{half!r}] must be non-negative numbers, at "
                    f"least one, in one dimension; got shape {values.shape}."
                )
            checked[name][half] = values
    return checked


def _columns(rows: Sequence[Row]) -> list[_Column]:
    names = {name for row in rows for name in row["metrics"]}
    return [column for column in _COLUMNS if column.metric in names]


def _subject(row: Row) -> str:
    return " / ".join(row[key] for key in ("dataset", "model", "scenario", "request"))


def _factors(row: Row) -> list[str]:
    return [f"{name} {value}" for name, value in _flat(row["factors"])]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The leaves of nested settings, ``outer.inner`` and text."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            leaves.append((f"{prefix}{name}", text))
    return leaves


def _reference(group: Sequence[Row], method: str) -> Row:
    return next(row for row in group if row["method"] == method)


def _rank(row: Row) -> int:
    return _reference_rank(row["method"])


def _reference_rank(method: str) -> int:
    """References first, in their order; the others stay as they came."""
    return REFERENCES.index(method) if method in REFERENCES else len(REFERENCES)


def _escape(text: Any) -> str:
    return html.escape(str(text))


def _write_whole(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a rename is atomic only within one file system.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        # A file name typed in another encoding must not cost the whole page.
        with open(unfinished, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
