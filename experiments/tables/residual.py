"""A residual network on all of CIFAR-10."""

import pandas as pd

from tables.writing import (
    METHOD,
    Cell,
    frame,
    grouped,
    less_retrained,
    relearning,
    rows_of,
    spread,
)


def requests(preset: str) -> str:
    """Show what was left of a class, and what requests took a model."""
    record = f"residual-{preset}"
    found = frame(record)
    found["gap"] = less_retrained(found, "retain_accuracy_test")
    taken = {row["method"]: row["seconds"] for row in rows_of(record)}
    return grouped(
        found.query("method != 'ceiling'"),
        "method",
        METHOD,
        ("forget accuracy, train", spread("forget_accuracy_train", 3)),
        ("forget accuracy, test", spread("forget_accuracy_test", 3)),
        ("retain accuracy, test", spread("retain_accuracy_test", 3)),
        ("less retraining's, points", spread("gap", 1)),
        ("JS to retrained, nats", spread("js_to_oracle", 4)),
        ("relearning steps", relearning()),
        ("init, s", _seconds(taken, "init")),
        ("request, s", _seconds(taken, "unlearn")),
    )


def rows(preset: str) -> str:
    """Show single rows forgotten, as distances from retrained models."""
    record = f"residual-rows-{preset}"
    found = frame(record)
    for name in ("forget_accuracy_train", "retain_accuracy_test"):
        found[name] = less_retrained(found, name)
    taken = {row["method"]: row["seconds"] for row in rows_of(record)}
    return grouped(
        found,
        "method",
        METHOD,
        (
            "accuracy on forgotten rows, less retraining's, points",
            spread("forget_accuracy_train", 1),
        ),
        ("test accuracy, likewise", spread("retain_accuracy_test", 1)),
        ("MIA AUC", spread("mia_auc", 3)),
        ("JS to retrained, forgotten rows, nats", spread("js_to_oracle", 4)),
        ("init, s", _seconds(taken, "init")),
        ("request, s", _seconds(taken, "unlearn")),
    )


def descendants(preset: str) -> str:
    """Show what a root and its descendants answer, and what all took together."""
    record = f"residual-descendants-{preset}"
    taken = {row["method"]: row["seconds"] for row in rows_of(record)}
    return grouped(
        frame(record),
        "method",
        METHOD,
        ("forget accuracy, test", spread("forget_accuracy_test", 3)),
        ("of the worst model", spread("forget_accuracy_test_worst", 3)),
        ("retain accuracy, test", spread("retain_accuracy_test", 3)),
        ("of the worst", spread("retain_accuracy_test_worst", 3)),
        ("init, s", _seconds(taken, "init")),
        ("request, s", _seconds(taken, "unlearn")),
    )


def _seconds(taken, part: str) -> Cell:
    """Show what a phase took a method, if anything."""

    def cell(of: pd.DataFrame) -> str:
        own = taken[of["method"].iloc[0]]
        return f"{own[part]:,.3g}" if own and own[part] else "–"

    return cell
