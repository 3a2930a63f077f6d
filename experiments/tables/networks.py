"""Models that inherit from each other."""

import numpy as np

from tables.writing import RESULTS, rows_of, spread, table


def settings(preset: str) -> str:
    """One class forgotten by whole networks: mean over settings, classes and nodes."""
    found = _networks(preset)
    lines = []
    for method in dict.fromkeys(key[3] for key in found if key[0] == "class"):
        cells = [f"`{method}`"]
        for regime in ("direct", "inherit"):
            wanted = {"scenario": "class", "regime": regime, "method": method}
            forget = _values(found, "forget_accuracy_test", **wanted)
            worst = _values(found, "forget_accuracy_test_worst", **wanted)
            gap = 100 * _values(found, "retain_gap", **wanted)
            least = 100 * _values(found, "retain_gap_worst", **wanted)
            cells += [
                f"{spread(forget, 3)} ({worst.max():.3f})" if worst.size else "–",
                f"{spread(gap, 2)} ({least.min():.1f})",
                spread(_values(found, "js_to_oracle", **wanted), 4),
                _relearning(found, **wanted),
            ]
        lines.append(cells)
    heads = ["method"]
    for regime in ("direct", "inherit"):
        heads += [
            f"{regime}: forget accuracy (worst)",
            "retain gap, points (worst)",
            "JS to retrained",
            "relearning steps",
        ]
    return table(heads, lines)


def against_mask(preset: str) -> str:
    """``folded`` beside the mask, in paired seeds, network by network."""
    found = _networks(preset)
    lines = []
    for setting in dict.fromkeys(key[1] for key in found if key[0] == "class"):
        for regime in ("direct", "inherit"):

            def of(name, method, setting=setting, regime=regime):
                return found["class", setting, regime, method][name]

            js = {
                m: np.array(of("js_to_own_oracle", m)["values"])
                for m in ("fiun/folded", "logit_mask")
            }
            steps = {
                m: np.array(of("relearn_steps", m)["values"])
                for m in ("fiun/folded", "logit_mask", "retrain")
            }
            off = {
                m: np.abs(steps[m] - steps["retrain"])
                for m in ("fiun/folded", "logit_mask")
            }
            seeds = js["logit_mask"].size
            lines.append(
                [
                    f"{setting.replace('_', '-')}, {regime}",
                    f"{js['fiun/folded'].mean():.4f}",
                    f"{js['logit_mask'].mean():.4f}",
                    f"{np.sum(js['fiun/folded'] < js['logit_mask'])} of {seeds}",
                    f"{steps['fiun/folded'].mean():.1f}",
                    f"{steps['logit_mask'].mean():.1f}",
                    f"{steps['retrain'].mean():.1f}",
                    f"{np.sum(off['fiun/folded'] < off['logit_mask'])} of {seeds}",
                ]
            )
    return table(
        [
            "network",
            "JS, folded",
            "JS, mask",
            "seeds nearer",
            "relearning steps, folded",
            "mask",
            "retrained",
            "seeds nearer to retrained",
        ],
        lines,
    )


def other_requests(preset: str) -> str:
    """Several classes, classes of two roots, and single rows; the deep networks."""
    found = _networks(preset)
    lines = []
    shown = (
        ("classes", "three classes"),
        ("two_roots", "2 + 2 classes of two roots"),
        ("rows", "a random 2 % of rows"),
        ("depth", "one class, 30 and 50 nodes"),
    )
    for scenario, what in shown:
        name = "forget_accuracy_" + ("train" if scenario == "rows" else "test")
        for method in ("original", "retrain", "fiun/repaired", "fiun/folded", "ssd"):
            wanted = {"scenario": scenario, "method": method}
            forget = _values(found, name, **wanted)
            if not forget.size:
                continue
            gap = 100 * _values(found, "retain_gap", **wanted)
            lines.append(
                [
                    what,
                    f"`{method}`",
                    spread(forget, 3),
                    spread(gap, 2),
                    spread(_values(found, "js_to_oracle", **wanted), 4),
                    spread(_values(found, "mia_auc", **wanted), 3),
                ]
            )
    return table(
        [
            "request",
            "method",
            "forget accuracy (of rows: on the rows)",
            "retain gap, points",
            "JS to retrained",
            "MIA AUC",
        ],
        lines,
    )


def _networks(preset: str) -> dict[tuple, dict]:
    """Metrics of whole networks, by scenario, setting, regime and method."""
    rows = [
        row
        for study in ("fiun", "fiun-depth")
        if (RESULTS / f"{study}-{preset}.json").exists()
        for row in rows_of(f"{study}-{preset}")
    ]
    return {
        (
            row["scenario"],
            row["factors"]["setting"],
            row["factors"]["regime"],
            row["method"],
        ): row["metrics"]
        for row in rows
        if row["factors"]["node"] == "all"
    }


def _relearning(found: dict[tuple, dict], **wanted) -> str:
    cut = _values(found, "relearn_censored", **wanted)
    steps = spread(_values(found, "relearn_steps", **wanted), 1)
    return f"≥ {steps}" if cut.size and cut.max() > 0 else steps


def _values(found: dict[tuple, dict], name: str, **wanted) -> np.ndarray:
    """A metric of all networks that match, ``[networks, seeds]``."""
    places = ("scenario", "setting", "regime", "method")
    values = [
        metrics[name]["values"]
        for key, metrics in found.items()
        if name in metrics
        and all(key[places.index(place)] == value for place, value in wanted.items())
    ]
    return np.array(values)
