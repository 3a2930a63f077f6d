"""The leaderboard: methods ranked by how far they are from retraining."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hyperforget_jax as hf
from tables.writing import RESULTS, table

PRESETS = ("digits", "mnist", "mnist_cnn")
# What ranks. Attacks end where a model is found for certain, and lose their hold on one
# whose confidences are infinite.
AUDIT = "mean confidence"
WORST_NODE = f"{AUDIT}, worst node"  # Of graphs.
# Nats: a mask's infinity, or a model that is none any more.
_MOST = 1_000
# Times the distance of doing nothing.
_WORST = 2
_RETAINED = "retain_accuracy_test"
_ACCURACIES = {
    "retain_accuracy_test": "retained, test",
    "retain_accuracy_test_worst_node": "retained, worst node",
    "forget_accuracy_test": "forgotten, test",
    "attack_success": "trigger works",
    "forget_accuracy_train": "forgotten, train",
}
_COSTS = ("ms a request", "KiB stored")


def results(folder: Path = RESULTS) -> str:
    """Show every leaderboard that is there, a section a preset."""
    files = [folder / f"leaderboard-{preset}.json" for preset in PRESETS]
    sections = [section(file) for file in files if file.exists()]
    return "\n".join(sections)


def section(file: Path) -> str:
    """Show a record: how it was made, and a table a scenario."""
    document = hf.report.read_audit(file)
    text = (
        f"## {document['preset']}\n\nMade by `{document['command']}`, recorded in "
        f"[`{file.name}`](../experiments/results/{file.name}). A run that goes "
        "on has the rows of those before, and names its own scenarios alone.\n"
    )
    groups = hf.report.by_subject(document["rows"])
    return text + overview(document["rows"]) + "".join(map(scenario, groups.values()))


def overview(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show a line a method: what is left of the originals' distance, by scenario."""
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    left: dict[str, dict[str, float]] = {}
    lost: dict[str, float] = {}
    for row in rows:
        (found,) = (each for each in row["audits"] if each["audit"] == AUDIT)
        share = found["value"] / found["original"]
        left.setdefault(row["method"], {})[row["scenario"]] = share
        before = row["reference_metrics"]["original"][_RETAINED]["mean"]
        points = 100 * (before - row["metrics"][_RETAINED]["mean"])
        lost[row["method"]] = max(lost.get(row["method"], -np.inf), points)

    def place(method):
        # More than nothing done is worse than nothing, however much it is.
        shares = np.minimum([*left[method].values()], _WORST)
        return len(shares) < len(scenarios), np.mean(shares)

    def cell(share):
        return "–" if share is None else f"{share:.2f}" if share < 10 else "> 10"

    lines = [
        [
            f"`{method}`",
            *(cell(left[method].get(name)) for name in scenarios),
            f"{lost[method]:z.1f}",
        ]
        for method in sorted(left, key=place)
    ]
    heads = ["method", *scenarios, "points lost"]
    return (
        "\nWhat is left of the distance that the original models have: 0 is "
        "retraining, 1 is to do nothing. In order of the mean, where more than "
        f"{_WORST} counts as {_WORST}; methods that answer for classes alone come "
        "last. Points are the most of retained test accuracy that were lost.\n\n"
        + table(heads, lines)
    )


def scenario(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show a line a method, the nearest to retraining first."""
    first = rows[0]
    timed = any(row["seconds"] is not None for row in rows)
    lines = [_reference(first, kind) for kind in ("original", "retrained")]
    for (low, high), row in ranked(rows):
        of = {found["audit"]: found for found in row["audits"]}
        found = of[AUDIT]
        half = (found["interval"][1] - found["interval"][0]) / 2
        count = sum(each["p"] is not None for each in row["audits"])
        lines.append(
            [
                f"{low}" if low == high else f"{low}–{high}",
                f"`{row['method']}`",
                _nats(found["value"], f" ± {half:.2f}"),
                *_worst(of, "value"),
                f"{of['u-lira, auc']['value']:.3f}",
                f"{of['klom']['value']:.2f}" if of["klom"]["value"] else "–",
                f"{len(row['accused_by'])} of {count}",
                *_accuracies(row["metrics"]),
                *_costs(row),
            ]
        )
    title = hf.report.scenario_title(first)
    heads = ["rank", "method", "confidence, nats"]
    if any(found["audit"] == WORST_NODE for found in first["audits"]):
        heads.append("worst node, nats")
    heads += ["U-LiRA, AUC", "KLoM", "distinguished by", *_heads(first)]
    return (
        f"\n### {title}\n\n{first['dataset']}, {first['model']}; {first['a_side']} "
        f"models a side, {first['examples']} examples.\n\n"
        + _table([*heads, *_COSTS], lines, 0 if timed else len(_COSTS))
    )


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[int, int], Any]]:
    """Rank rows by the audit, lowest first: ``((best place, worst place), row)``.

    Two places differ where intervals do not meet.
    """

    def interval(row):
        (found,) = (each for each in row["audits"] if each["audit"] == AUDIT)
        return found["interval"]

    placed = []
    for row in rows:
        low, high = interval(row)
        ahead = sum(interval(other)[1] < low for other in rows)
        behind = sum(interval(other)[0] > high for other in rows)
        placed.append(((ahead + 1, len(rows) - behind), row))
    return sorted(placed, key=lambda item: sum(interval(item[1])))


def _reference(row: Mapping[str, Any], kind: str) -> list[str]:
    of = {found["audit"]: found for found in row["audits"]}
    field = {"original": "original", "retrained": "floor"}[kind]
    value, attack, apart = (of[n][field] for n in (AUDIT, "u-lira, auc", "klom"))
    return [
        "",
        f"{kind} models",
        _nats(value),
        *_worst(of, field),
        f"{attack:.3f}",
        f"{apart:.2f}" if apart else "–",
        "–",
        *_accuracies(row["reference_metrics"][kind]),
        *("–" for _ in _COSTS),
    ]


def _nats(value: float, half: str = "") -> str:
    return f"{value:.2f}{half}" if value < _MOST else f"> {_MOST}"


def _worst(of: Mapping[str, Mapping[str, Any]], field: str) -> list[str]:
    return [_nats(of[WORST_NODE][field])] if WORST_NODE in of else []


def _table(heads: list[str], lines: list[list[str]], less: int) -> str:
    """Write a table, without its last columns where nothing is known of them."""
    end = len(heads) - less
    return table(heads[:end], [line[:end] for line in lines])


def _costs(row: Mapping[str, Any]) -> list[str]:
    if row["seconds"] is None:
        return ["–" for _ in _COSTS]
    stored = row["stored_bytes"] / 1024
    return [f"{1000 * row['seconds']['unlearn']:.0f}", f"{stored:,.0f}"]


def _heads(row: Mapping[str, Any]) -> list[str]:
    return [title for name, title in _ACCURACIES.items() if name in row["metrics"]]


def _accuracies(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"{100 * metrics[name]['mean']:.1f}" for name in _ACCURACIES if name in metrics
    ]
