"""Projected-gradient unlearning."""

import pandas as pd
from scipy import stats

from tables.writing import (
    METHOD,
    Cell,
    frame,
    grouped,
    less_retrained,
    relearning,
    spread,
    value,
)

FORGET, FORGET_TEST = "forget_accuracy_train", "forget_accuracy_test"
RETAIN, RETAIN_TEST = "retain_accuracy_train", "retain_accuracy_test"


def classes(preset: str) -> str:
    """Show each class forgotten in turn: means over classes and the worst class."""
    found = by_class(preset)
    return grouped(
        _without_ablations(found),
        "method",
        METHOD,
        ("forget accuracy, train (worst class)", spread(FORGET, 3, "max")),
        ("forget accuracy, test (worst)", spread(FORGET_TEST, 3, "max")),
        (
            "retain accuracy, test, less retraining's, points (worst)",
            spread("gap", 2, "min"),
        ),
        ("JS to retrained, nats (worst)", spread("js_to_oracle", 4, "max")),
        ("relearning steps; target retrain's", relearning()),
    )


def rows(preset: str) -> str:
    """Show rows forgotten, request by request, as distances from retrained models."""
    found = frame(f"pgu-rows-{preset}").query("scenario in ('rows', 'part')").copy()
    for name in (FORGET, RETAIN, RETAIN_TEST, "mia_auc"):
        found[name] = less_retrained(found, name)
    return grouped(
        _without_ablations(found).query("method != 'retrain'"),
        ["request", "method"],
        ("request", value("request")),
        METHOD,
        ("forget accuracy, train, less retraining's, points", spread(FORGET, 1)),
        ("retain, train", spread(RETAIN, 1)),
        ("retain, test", spread(RETAIN_TEST, 1)),
        ("MIA AUC less retraining's", spread("mia_auc", 3, scale=0.01)),
        (
            "KL to retrained on forgotten rows, nats; the ceiling is seed to seed",
            spread("kl_to_oracle", 3),
        ),
    )


def poison(preset: str) -> str:
    """Show wrong labels forgotten: what of the damage is mended."""
    found = frame(f"pgu-rows-{preset}").query("scenario == 'poison'")
    accuracy = found.pivot(index="seed", columns="method", values="accuracy_test")
    cost = accuracy["retrain"].mean() - accuracy["original"]
    mended = 100 * accuracy.sub(accuracy["original"], axis=0).div(cost, axis=0)

    def mending(of: pd.DataFrame) -> str:
        method = of["method"].iloc[0]
        if method in ("original", "retrain"):
            return "–"
        # Student's t for five seeds; the seeds are few, and so is what they say.
        half = stats.t.ppf(0.975, len(mended) - 1) * mended[method].sem()
        return f"{mended[method].mean():.0f} ± {half:.0f}"

    return grouped(
        found.query("method != 'ceiling'"),
        "method",
        METHOD,
        ("accuracy, test", spread("accuracy_test", 3)),
        ("damage mended, % (95 % confidence)", mending),
        ("wrong labels still answered", spread(FORGET, 3)),
        ("retain accuracy, train", spread(RETAIN, 3)),
    )


def ablations(preset: str) -> str:
    """Show one choice undone at a time, on one class and on the first rows."""
    of_class = by_class(preset)
    label = of_class.query("method == 'ablation/sgd'")["request"].iloc[0]
    of_class = of_class[of_class["request"] == label]
    of_rows = frame(f"pgu-rows-{preset}").query("scenario == 'rows'")
    first = of_rows["request"].iloc[0]
    rows = dict(iter(of_rows[of_rows["request"] == first].groupby("method")))

    def on_rows(cell: Cell) -> Cell:
        return lambda of: cell(rows[of["method"].iloc[0]])

    ablated = [m for m in of_class["method"].unique() if m.startswith("ablation/")]
    return grouped(
        of_class,
        "method",
        METHOD,
        (f"{label}: forget accuracy, train", spread(FORGET, 3)),
        ("retain, test", spread(RETAIN_TEST, 4)),
        ("JS to retrained", spread("js_to_oracle", 4)),
        ("relearning steps", spread("relearn_steps", 1)),
        ("largest relative drift", spread("relative_drift_max", 3)),
        (f"{first}: forget accuracy, train", on_rows(spread(FORGET, 3))),
        ("retain, test", on_rows(spread(RETAIN_TEST, 4))),
        ("KL to retrained", on_rows(spread("kl_to_oracle", 3))),
        order=["pgu", *(one for one in ablated if one != "ablation/longer")],
    )


def by_class(preset: str) -> pd.DataFrame:
    """Select the requests for classes, and how far retraining is, in points."""
    found = frame(f"pgu-{preset}").query("scenario == 'class'").copy()
    found["gap"] = less_retrained(found, RETAIN_TEST)
    return found


def _without_ablations(found: pd.DataFrame) -> pd.DataFrame:
    return found[~found["method"].str.startswith("ablation/")]
