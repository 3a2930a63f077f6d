"""Hypernetworks."""

from collections.abc import Callable, Sequence

import numpy as np

from tables.writing import of_requests, relearning, rows_of, spread, table, with_worst


def classes(preset: str) -> str:
    """Each class in turn, beside all rivals: means over classes and the worst class."""
    found = _by(_hypernetworks(preset, "class"))
    oracle = of_requests(found["retrain",], "retain_accuracy_test")
    lines = []
    for (method,), metrics in found.items():
        if method.startswith("ablation/"):
            continue  # It answers one class.
        gap = 100 * (of_requests(metrics, "retain_accuracy_test") - oracle)
        lines.append(
            [
                f"`{method}`",
                with_worst(of_requests(metrics, "forget_accuracy_test"), max, 3),
                with_worst(gap, min, 2),
                with_worst(of_requests(metrics, "js_to_oracle"), max, 4),
                relearning(metrics),
                spread(of_requests(metrics, "mia_auc"), 3),
            ]
        )
    return table(
        [
            "method",
            "forget accuracy, test (worst class)",
            "retain gap, points (worst)",
            "JS to retrained (worst)",
            "relearning steps",
            "MIA AUC",
        ],
        lines,
    )


def samples(preset: str) -> str:
    """Raw samples: means over classes, models and hypernetworks, and the worst."""
    lines = []
    for (method, steps), metrics in _by(
        _hypernetworks(preset, "samples"), "steps"
    ).items():

        def mean(name: str, of: Callable = np.mean, metrics=metrics) -> float:
            return float(of([one[name]["values"] for one in metrics]))

        lines.append(
            [
                f"`{method}`, {steps} step{'s' if steps > 1 else ''}",
                f"{100 * mean('forget_accuracy_test'):.2f} "
                f"({100 * mean('forget_accuracy_worst_sample', np.max):.1f})",
                f"{100 * mean('share_below_1_percent'):.1f}, "
                f"{100 * mean('share_below_2_percent'):.1f}",
                f"{100 * mean('retain_accuracy_test'):.2f} "
                f"({100 * mean('retain_accuracy_worst_sample', np.min):.1f})",
                f"{100 * mean('retain_accuracy_spread'):.2f}",
                f"{100 * mean('best_forget_accuracy_test'):.2f}, "
                f"{100 * mean('best_retain_accuracy_test'):.2f}",
                f"{mean('nearest_distance_ratio'):.2f}",
            ]
        )
    return table(
        [
            "hypernetwork",
            "forget accuracy, % (worst sample)",
            "samples at most 1 %, 2 %",
            "retain accuracy, % (worst sample)",
            "its spread between samples, points",
            "best by the probe: forget, retain",
            "distance to the zoo / within it",
        ],
        lines,
    )


def prompts(preset: str) -> str:
    """How far what was asked for is what came."""
    lines = []
    for (method,), metrics in _by(_hypernetworks(preset, "prompts")).items():
        cells = []
        for name in ("r2_sweep", "r2_trajectory"):
            values = np.array([one[name]["values"] for one in metrics])
            cells.append(f"{values.mean():.3f} ({values.mean(axis=1).min():.3f})")
        lines.append([f"`{method}`", *cells])
    return table(
        [
            "hypernetwork",
            "R², sweep (worst class and network)",
            "R², held-out runs (worst class and network)",
        ],
        lines,
    )


def pairs(preset: str) -> str:
    """Pairs of classes, in the zoo and in no zoo."""
    lines = []
    for (method, where), metrics in _by(
        _hypernetworks(preset, "pairs"), "where"
    ).items():
        lines.append(
            [
                where,
                f"`{method}`",
                with_worst(100 * of_requests(metrics, "forget_accuracy_test"), max, 2),
                with_worst(100 * of_requests(metrics, "retain_accuracy_test"), min, 2),
            ]
        )
    lines.sort(key=lambda line: line[0])
    return table(
        [
            "pairs",
            "method",
            "forget accuracy, % (worst pair)",
            "retain accuracy, % (worst pair)",
        ],
        lines,
    )


def strangers(preset: str) -> str:
    """Models that were trained otherwise than those of the zoo, by dose."""
    rows = _hypernetworks(preset, "strangers")
    cells: dict[tuple, dict[str, str]] = {}
    for (method, models, dose), metrics in _by(rows, "models", "dose").items():

        def mean(name: str, of: Callable = np.mean, metrics=metrics) -> float:
            return float(of([one[name]["values"] for one in metrics]))

        before = f"{100 * mean('retain_accuracy_before'):.1f}"
        place = f"`{method}`", models, f"{mean('norm_ratio'):.2f}", before
        cells.setdefault(place, {})[dose] = (
            f"{100 * mean('forget_accuracy_test'):.1f} "
            f"({100 * mean('forget_accuracy_worst_class', np.max):.0f}), "
            f"{100 * mean('retain_accuracy_test'):.1f}"
        )
    # Digits come before letters: what the probe chooses is last.
    doses = sorted({row["factors"]["dose"] for row in rows})
    lines = [
        [*place, *(of_dose[dose] for dose in doses)] for place, of_dose in cells.items()
    ]
    return table(
        [
            "hypernetwork",
            "models trained by",
            "norm ratio",
            "retained before, %",
            *(f"dose {dose}" if dose[0].isdigit() else dose for dose in doses),
        ],
        lines,
    )


def ablations(preset: str) -> str:
    """One choice undone at a time: means over classes and models, the worst class."""
    lines = []
    for (method, steps), metrics in _by(
        _hypernetworks(preset, "ablations"), "steps"
    ).items():
        lines.append(
            [
                f"`{method.removeprefix('ablation/')}`",
                str(steps),
                with_worst(100 * of_requests(metrics, "forget_accuracy_test"), max, 2),
                with_worst(100 * of_requests(metrics, "retain_accuracy_test"), min, 2),
                with_worst(of_requests(metrics, "r2_sweep"), min, 3)
                if "r2_sweep" in metrics[0]
                else "–",
                f"{of_requests(metrics, 'parameter_spread').mean():.3f}",
            ]
        )
    return table(
        [
            "what is undone",
            "steps",
            "forget accuracy, % (worst class)",
            "retain accuracy, % (worst class)",
            "R², sweep (worst class)",
            "spread of parameters",
        ],
        lines,
    )


def _hypernetworks(preset: str, scenario: str) -> list[dict]:
    return [row for row in rows_of(f"dihyfo-{preset}") if row["scenario"] == scenario]


def _by(rows: Sequence[dict], *names: str) -> dict[tuple, list[dict]]:
    """Metrics of rows, by method and the factors named."""
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        place = (row["method"], *(row["factors"].get(name) for name in names))
        found.setdefault(place, []).append(row["metrics"])
    return found
