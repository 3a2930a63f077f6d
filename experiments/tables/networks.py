"""Models that inherit from each other."""

import itertools

import numpy as np
import pandas as pd

from tables.writing import METHOD, Cell, frame, grouped, mean, relearning, spread, table

SCENARIOS = {
    "classes": "three classes",
    "two_roots": "2 + 2 classes of two roots",
    "rows": "a random 2 % of rows",
    "depth": "one class, 30 and 50 nodes",
}
OURS, MASK = "fiun/folded", "logit_mask"


def settings(preset: str) -> str:
    """Show one class forgotten by whole networks: mean over settings and nodes."""
    columns = [METHOD]
    for regime in ("direct", "inherit"):
        columns += [
            (f"{regime}: forget accuracy (worst)", _within(regime, FORGET)),
            ("retain gap, points (worst)", _within(regime, GAP)),
            ("JS to retrained", _within(regime, spread("js_to_oracle", 4))),
            ("relearning steps", _within(regime, relearning())),
        ]
    found = of_networks(preset).query("scenario == 'class'")
    return grouped(found, "method", *columns)


def against_mask(preset: str) -> str:
    """Show ``folded`` beside the mask, in paired seeds, network by network."""
    found = of_networks(preset).query("scenario == 'class'")
    lines = []
    for (setting, regime), of in found.groupby(["setting", "regime"], sort=False):
        js, steps = (
            of.pivot(index="seed", columns="method", values=name)
            for name in ("js_to_own_oracle", "relearn_steps")
        )
        off = steps.sub(steps["retrain"], axis=0).abs()
        lines.append(
            [
                f"{setting.replace('_', '-')}, {regime}",
                *(f"{js[one].mean():.4f}" for one in (OURS, MASK)),
                f"{(js[OURS] < js[MASK]).sum()} of {len(js)}",
                *(f"{steps[one].mean():.1f}" for one in (OURS, MASK, "retrain")),
                f"{(off[OURS] < off[MASK]).sum()} of {len(off)}",
            ]
        )
    heads = (
        *("network", "JS, folded", "JS, mask", "seeds nearer"),
        *("relearning steps, folded", "mask", "retrained"),
        "seeds nearer to retrained",
    )
    return table(heads, lines)


def other_requests(preset: str) -> str:
    """Show several classes, classes of two roots, single rows, and deep networks."""
    found = of_networks(preset)
    of_rows = found["scenario"] == "rows"
    train, test = (found[f"forget_accuracy_{split}"] for split in ("train", "test"))
    found["forget"] = np.where(of_rows, train, test)
    methods = ("original", "retrain", "fiun/repaired", OURS, "ssd")
    return grouped(
        found,
        ["scenario", "method"],
        ("request", lambda of: SCENARIOS[of["scenario"].iloc[0]]),
        METHOD,
        ("forget accuracy (of rows: on the rows)", spread("forget", 3)),
        ("retain gap, points", spread("retain_gap", 2, scale=100)),
        ("JS to retrained", spread("js_to_oracle", 4)),
        ("MIA AUC", spread("mia_auc", 3)),
        order=itertools.product(SCENARIOS, methods),
    )


def of_networks(preset: str) -> pd.DataFrame:
    """Select what all nodes of a network did together."""
    return frame(f"fiun-{preset}", f"fiun-depth-{preset}").query("node == 'all'").copy()


def _with_worst(name: str, digits: int, how: str, fewer: int, scale: float = 1) -> Cell:
    """Show the spread, and the worst of any network, class, node and seed."""
    usual = spread(name, digits, scale=scale)
    worst = mean(f"{name}_worst", fewer, how, scale)
    return lambda of: f"{usual(of)} ({worst(of)})"


FORGET = _with_worst("forget_accuracy_test", 3, "max", 3)
GAP = _with_worst("retain_gap", 2, "min", 1, 100)


def _within(regime: str, cell: Cell) -> Cell:
    return lambda of: cell(of[of["regime"] == regime])
