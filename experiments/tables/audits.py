"""Audits of every method: each one's value beside its floor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hyperforget_jax as hf
from tables.writing import RESULTS, table

_PRESETS = ("digits", "mnist", "mnist_cnn")
_SHOWN = ("retrain", "logit_mask", "neggrad_plus", "fiun", "pgu", "dihyfo")


def results(folder: Path = RESULTS) -> str:
    """Show every record of audits that is there, a section a preset."""
    files = [folder / f"audit-{preset}.json" for preset in _PRESETS]
    sections = [section(file) for file in files if file.exists()]
    return "\n".join(sections) or "There is no record of audits yet.\n"


def overview(folder: Path = RESULTS) -> str:
    """Show the class request of digits for README: a few audits, a line a method."""
    document = hf.report.read_audit(folder / "audit-digits.json")
    shown = ("u-lira", "u-lira, true positives at 1 %", "klom", "mean confidence")
    titles = (
        "U-LiRA, accuracy",
        "U-LiRA, true positives at 1 %",
        "KLoM, nats",
        "distance of mean confidence",
    )
    lines = []
    for row in document["rows"]:
        if row["scenario"] == "class" and row["method"] in _SHOWN:
            of = {found["audit"]: found for found in row["audits"]}
            count = sum(found["p"] is not None for found in row["audits"])
            by = f"{len(row['accused_by'])} of {count}"
            cells = [_cell(of[name], name in row["accused_by"]) for name in shown]
            lines.append([f"`{row['method']}`", by, *cells])
    return table(["method", "distinguished by", *titles], lines)


def section(file: Path) -> str:
    """Show a record: how it was made, and a table a scenario."""
    document = hf.report.read_audit(file)
    record = f"[`{file.name}`](../experiments/results/{file.name})"
    text = (
        f"## {document['preset']}\n\nMade by `{document['command']}` (tier "
        f"{document['tier']}), recorded in {record}.\n"
    )
    groups = hf.report.by_subject(document["rows"])
    return text + "".join(map(scenario, groups.values()))


def scenario(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show a line a method: value / floor of each audit, how many tell, and the cost.

    What is distinguished from retrained models is bold. The first lines are the
    references, posed as unlearned. Audits that have no test have a table of their own.
    """
    audits = [found for row in rows for found in row["audits"]]
    tested = {found["audit"] for found in audits if found["p"] is not None}
    names = dict.fromkeys(found["audit"] for found in audits)
    sizes = dict.fromkeys(
        f"{row['a_side']} models a side, {row['examples']} examples" for row in rows
    )
    title = hf.report.scenario_title(rows[0])
    model = f"{rows[0]['dataset']}, {rows[0]['model']}"
    text = f"\n### {title}\n\n{model}; {'; or '.join(sizes)}.\n"
    if tested:
        columns = [name for name in names if name in tested]
        last = "distinguished by", "retain accuracy, test"
        text += f"\n{_table(rows, columns, last)}"
    if others := [name for name in names if name not in tested]:
        text += f"\n{_table(rows, others)}"
    return text


def _table(rows, names: Sequence[str], last: tuple[str, ...] = ()) -> str:
    found = [{f["audit"]: f for f in row["audits"]} for row in rows]
    references = rows[0]["reference_metrics"]
    lines = []
    for kind, field in (("original", "original"), ("retrained", "floor")):
        cells = [_first(found, name, field) for name in names]
        end = ["–", _accuracy(references.get(kind, {}))] if last else []
        lines.append([f"{kind} models", *cells, *end])
    for row, of in zip(rows, found, strict=True):
        cells = [_cell(of.get(name), name in row["accused_by"]) for name in names]
        count = sum(each["p"] is not None for each in row["audits"])
        by = f"{len(row['accused_by'])} of {count}"
        end = [by, _accuracy(row["metrics"])] if last else []
        lines.append([f"`{row['method']}`", *cells, *end])
    return table(["method", *names, *last], lines)


def _first(found: Sequence[Mapping[str, Any]], name: str, field: str) -> str:
    values = [of[name][field] for of in found if name in of]
    return next((f"{value:.3f}" for value in values if value is not None), "–")


def _cell(found: Mapping[str, Any] | None, is_told: bool) -> str:
    if found is None or found["value"] is None:
        return "–"
    value = f"{found['value']:.3f}"
    value = f"**{value}**" if is_told else value
    return value if found["floor"] is None else f"{value} / {found['floor']:.3f}"


def _accuracy(metrics: Mapping[str, Mapping[str, float]]) -> str:
    one = metrics.get("retain_accuracy_test")
    return f"{one['mean']:.3f} ± {one['std']:.3f}" if one else "–"
