"""Projected-gradient unlearning."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from tables.writing import of_requests, relearning, rows_of, spread, table, with_worst


def classes(preset: str) -> str:
    """Each class forgotten in turn: means over classes and the worst class."""
    found = _pgu(preset, "class")
    oracle = of_requests(found["retrain"], "retain_accuracy_test")
    lines = []
    for method, metrics in found.items():
        if method.startswith("ablation/"):
            continue
        # Of a class and method: against the mean of the oracles of that class.
        gap = 100 * (
            of_requests(metrics, "retain_accuracy_test")
            - oracle.mean(axis=1, keepdims=True)
        )
        lines.append(
            [
                f"`{method}`",
                with_worst(of_requests(metrics, "forget_accuracy_train"), max, 3),
                with_worst(of_requests(metrics, "forget_accuracy_test"), max, 3),
                with_worst(gap, min, 2),
                with_worst(of_requests(metrics, "js_to_oracle"), max, 4),
                relearning(metrics),
            ]
        )
    return table(
        [
            "method",
            "forget accuracy, train (worst class)",
            "forget accuracy, test (worst)",
            "retain accuracy, test, less retraining's, points (worst)",
            "JS to retrained, nats (worst)",
            "relearning steps; target retrain's",
        ],
        lines,
    )


def rows(preset: str) -> str:
    """Rows forgotten, request by request, as distances from the oracles."""
    lines = []
    for scenario in ("rows", "part"):
        found = _pgu(preset, scenario)
        requests = list(dict.fromkeys(one["request"] for one in found["pgu"]))
        for request in requests:
            of_request = {
                method: one
                for method, metrics in found.items()
                for one in metrics
                if one["request"] == request and not method.startswith("ablation/")
            }
            for method, one in of_request.items():
                if method == "retrain":
                    continue
                lines.append(
                    [
                        request,
                        f"`{method}`",
                        *(
                            _gap(one, of_request["retrain"], name)
                            for name in (
                                "forget_accuracy_train",
                                "retain_accuracy_train",
                                "retain_accuracy_test",
                            )
                        ),
                        _gap(one, of_request["retrain"], "mia_auc", 1, 3),
                        spread(of_requests([one], "kl_to_oracle"), 3),
                    ]
                )
    return table(
        [
            "request",
            "method",
            "forget accuracy, train, less retraining's, points",
            "retain, train",
            "retain, test",
            "MIA AUC less retraining's",
            "KL to retrained on forgotten rows, nats; the ceiling is seed to seed",
        ],
        lines,
    )


def poison(preset: str) -> str:
    """Wrong labels forgotten: what of the damage is mended."""
    found = {method: metrics[0] for method, metrics in _pgu(preset, "poison").items()}
    poisoned = np.array(found["original"]["accuracy_test"]["values"])
    cost = found["retrain"]["accuracy_test"]["mean"] - poisoned
    lines = []
    for method, metrics in found.items():
        if method == "ceiling":
            continue
        accuracy = np.array(metrics["accuracy_test"]["values"])
        mended = 100 * (accuracy - poisoned) / cost
        # Student's t for five seeds; the seeds are few, and so is what they say.
        half = stats.t.ppf(0.975, mended.size - 1) * stats.sem(mended)
        cells = [f"{accuracy.mean():.3f} ± {accuracy.std(ddof=1):.3f}"]
        if method in ("original", "retrain"):
            cells.append("–")
        else:
            cells.append(f"{mended.mean():.0f} ± {half:.0f}")
        lines.append(
            [
                f"`{method}`",
                *cells,
                spread(of_requests([metrics], "forget_accuracy_train"), 3),
                spread(of_requests([metrics], "retain_accuracy_train"), 3),
            ]
        )
    return table(
        [
            "method",
            "accuracy, test",
            "damage mended, % (95 % confidence)",
            "wrong labels still answered",
            "retain accuracy, train",
        ],
        lines,
    )


def ablations(preset: str) -> str:
    """One choice undone at a time, on one class and on the first request for rows."""
    by_class, rows = _pgu(preset, "class"), _pgu(preset, "rows")
    (label,) = {one["request"] for one in by_class["ablation/sgd"]}
    first = rows["pgu"][0]["request"]

    def cells(one: dict, names: Sequence[tuple[str, int]]) -> list[str]:
        return [spread(of_requests([one], name), digits) for name, digits in names]

    lines = []
    for method in ["pgu", *(m for m in by_class if m.startswith("ablation/"))]:
        if method == "ablation/longer":
            continue
        (of_class,) = (one for one in by_class[method] if one["request"] == label)
        of_rows = next(one for one in rows[method] if one["request"] == first)
        lines.append(
            [
                f"`{method}`",
                *cells(
                    of_class,
                    (
                        ("forget_accuracy_train", 3),
                        ("retain_accuracy_test", 4),
                        ("js_to_oracle", 4),
                        ("relearn_steps", 1),
                        ("relative_drift_max", 3),
                    ),
                ),
                *cells(
                    of_rows,
                    (
                        ("forget_accuracy_train", 3),
                        ("retain_accuracy_test", 4),
                        ("kl_to_oracle", 3),
                    ),
                ),
            ]
        )
    return table(
        [
            "method",
            f"{label}: forget accuracy, train",
            "retain, test",
            "JS to retrained",
            "relearning steps",
            "largest relative drift",
            f"{first}: forget accuracy, train",
            "retain, test",
            "KL to retrained",
        ],
        lines,
    )


def _pgu(preset: str, scenario: str) -> dict[str, list[dict]]:
    """Metrics of every request of a scenario, by method."""
    found: dict[str, list[dict]] = {}
    study = "pgu" if scenario == "class" else "pgu-rows"
    for row in rows_of(f"{study}-{preset}"):
        if row["scenario"] == scenario:
            found.setdefault(row["method"], []).append(
                {**row["metrics"], "request": row["request"]}
            )
    return found


def _gap(
    metrics: dict, oracle: dict, name: str, scale: float = 100, digits: int = 1
) -> str:
    gap = scale * (of_requests([metrics], name) - oracle[name]["mean"])
    return spread(gap, digits)
